"""WorkerTrial: the Optuna trial that an objective is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from orchestrator.search.space import Space


class TrialInterrupted(BaseException):
    """The worker was asked to leave; an objective must not catch it, hence no Exception."""


class WorkerTrial(optuna.Trial):
    """An :class:`optuna.Trial` with the spec's domains, the trial's seed and an orderly leave.

    Args:
        study: the study with its sampler and pruner.
        trial_id: the claimed trial.
        space: domains that stand in place of those that the objective suggests.
        seed: the trial's own seed.
        steps: how many values a full trial reports; None: unknown.
        leaving: tells whether the worker was asked to leave.
    """

    def __init__(
        self,
        study: optuna.Study,
        trial_id: int,
        space: Space,
        seed: int,
        steps: int | None,
        leaving: Callable[[], bool],
    ) -> None:
        super().__init__(study, trial_id)
        self.seed = seed
        self._space = space
        self._steps = steps
        self._leaving = leaving

    def suggest_space(self) -> None:
        """Draw every parameter of the space, in its order."""
        for name, distribution in self._space.items():
            self._suggest(name, distribution)

    def report(self, value: float, step: int) -> None:
        """Record an intermediate value.

        Raises:
            TrialInterrupted: the worker is leaving and the trial has steps to go.
        """
        super().report(value, step)
        if self._leaving() and not (self._steps is not None and step >= self._steps):
            raise TrialInterrupted

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        # Every suggest_* of Optuna comes through here.
        return super()._suggest(name, self._space.get(name, distribution))

    def _check_distribution(self, name: str, distribution: BaseDistribution) -> None:
        if name not in self._space:
            super()._check_distribution(name, distribution)
