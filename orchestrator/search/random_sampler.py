"""Random search that prepares each domain once. Its draws are those of Optuna's sampler."""

from __future__ import annotations

from typing import Any

from optuna import Study, samplers
from optuna._transform import _SearchSpaceTransform, _untransform_numerical_param
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial


class RandomSampler(samplers.RandomSampler):
    """Optuna's; see there for its options."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)
        self._bounds: dict[str, tuple[BaseDistribution, float, float]] = {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        # Choices that are equal need not be the same: 1 and True. Numbers are.
        if isinstance(param_distribution, CategoricalDistribution):
            return super().sample_independent(study, trial, param_name, param_distribution)
        known = self._bounds.get(param_name)
        if known is None or known[0] != param_distribution:
            known = self._prepare(param_name, param_distribution)
        # A number costs NumPy a tenth of what an array of one does, and is the same.
        drawn = self._rng.rng.uniform(known[1], known[2])
        return _untransform_numerical_param(drawn, param_distribution, transform_log=True)

    def _prepare(
        self, name: str, domain: BaseDistribution
    ) -> tuple[BaseDistribution, float, float]:
        low, high = _SearchSpaceTransform({name: domain}).bounds[0].tolist()
        self._bounds[name] = domain, low, high
        return self._bounds[name]
