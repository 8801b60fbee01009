"""An objective whose training a test writes in place, for workers in the test's own process."""

from __future__ import annotations

from typing import Any

import optuna
from stepped import Stepped

from orchestrator.objective import Trial

# A test puts its own in their place.


def after_step(trial: Trial, step: int) -> None:
    """Comes after each step's report."""


def function(trial: optuna.Trial) -> Any:
    """The plain objective."""


class Hooked(Stepped):
    """Notes the number of each step that it trains in ``trained``."""

    trained: list[tuple[int, int]] = []  # noqa: RUF012 - emptied by the fixture

    def train(self, trial: Trial, step: int) -> None:
        self.trained.append((trial.number, step))

    def reported(self, trial: Trial, step: int) -> None:
        after_step(trial, step)


def plain(trial: optuna.Trial) -> Any:
    """Any function of a trial; some return what is refused."""
    return function(trial)
