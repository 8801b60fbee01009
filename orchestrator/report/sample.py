"""Some trials of a study, as a study for Optuna's evaluators."""

from __future__ import annotations

from collections.abc import Container, Sequence

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.spec.model import Direction


class TrialSample(optuna.Study):
    """A study of chosen trials, for reading only.

    It has no storage: a study that Optuna makes announces itself in Optuna's log.

    Args:
        trials: the trials.
        direction: of the value.
    """

    def __init__(self, trials: Sequence[FrozenTrial], direction: Direction) -> None:
        self._chosen = trials
        self._toward = StudyDirection[direction.upper()]

    @property
    def directions(self) -> list[StudyDirection]:
        return [self._toward]

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._chosen if states is None or trial.state in states]
