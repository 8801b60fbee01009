"""OlderTrials: what a new study takes along of an older one, and what its first trials try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from orchestrator.search.encoded_space import Array, EncodedSpace, code_within
from orchestrator.search.observations import losses_of

# Of a study that has more trials, the best ones and some of the others: the time for a suggestion
# grows with the cube of their number.
_BEST, _OTHERS = 100, 50


@dataclass(frozen=True)
class OlderTrials:
    """Finished trials of one study.

    Attributes:
        params: the configuration of each, the best first; those that hold their constraints are
            before the others.
        losses: theirs, the lower the better.
    """

    params: Sequence[Mapping[str, Any]]
    losses: Sequence[float]

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], maximize: bool) -> OlderTrials:
        """Those of a study that have a value; of a pruned one the last, as for a sampler."""
        losses = losses_of(trials, maximize)
        violates = np.array(
            [any(not each <= 0 for each in trial.constraints.values()) for trial in trials]
        )
        order = [int(place) for place in np.lexsort((losses, violates))]
        known = [place for place in order if np.isfinite(losses[place]) and trials[place].params]
        others = known[_BEST:]
        spread = np.linspace(0, len(others) - 1, min(_OTHERS, len(others))).astype(int)
        kept = [*known[:_BEST], *(others[place] for place in spread)]
        return cls([trials[place].params for place in kept], [float(losses[p]) for p in kept])

    @classmethod
    def read(cls, document: Sequence[tuple[Mapping[str, Any], float]]) -> OlderTrials:
        """What :meth:`as_json` has written."""
        return cls([params for params, _ in document], [loss for _, loss in document])

    def as_json(self) -> list[tuple[Mapping[str, Any], float]]:
        """As a study keeps them."""
        return list(zip(self.params, self.losses, strict=True))

    def within(self, space: EncodedSpace) -> tuple[Array, Array]:
        """The configurations that lie in a space, as far as it has their parameters; the losses."""
        rows, losses = [], []
        for params, loss in zip(self.params, self.losses, strict=True):
            try:
                row = [
                    code_within(each, params[name]) if name in params else np.nan
                    for name, each in zip(space.names, space.parameters, strict=True)
                ]
            except ValueError:
                continue
            if not np.isnan(row).all():
                rows.append(row)
                losses.append(loss)
        return np.array(rows, dtype=float).reshape(-1, len(space.names)), np.array(losses)


def first_tries(prior: Mapping[str, Any], older: Sequence[OlderTrials]) -> list[Mapping[str, Any]]:
    """The values of the first trials: what the user expects, then the best of each older study."""
    best = [each.params[0] for each in older if each.params]
    return [*([prior] if prior else []), *best]
