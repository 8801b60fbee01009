"""Random search that prepares each domain once. Its draws are those of Optuna's sampler."""

from __future__ import annotations

from typing import Any

from optuna import Study, samplers
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial


class RandomSampler(samplers.RandomSampler):
    """Optuna's; see there for its options."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)
        self._prepared: dict[str, tuple[BaseDistribution, _SearchSpaceTransform]] = {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        transform = self._transform(param_name, param_distribution)
        drawn = self._rng.rng.uniform(transform.bounds[:, 0], transform.bounds[:, 1])
        return transform.untransform(drawn)[param_name]

    def _transform(self, name: str, domain: BaseDistribution) -> _SearchSpaceTransform:
        known = self._prepared.get(name)
        if known is not None and known[0] == domain:
            return known[1]
        transform = _SearchSpaceTransform({name: domain})
        # Choices that are equal need not be the same: 1 and True. Numbers are.
        if not isinstance(domain, CategoricalDistribution):
            self._prepared[name] = domain, transform
        return transform
