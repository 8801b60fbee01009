"""An objective whose training a test writes in place, for workers in the test's own process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pydantic
from optuna.distributions import BaseDistribution, FloatDistribution

from objectives.base import Objective, Trial

# A test puts its own in their place.


def after_step(trial: Any, step: int) -> None:
    """Comes after each step's report."""


def function(trial: Any) -> Any:
    """The plain objective."""


class Hooked(Objective):
    """Counts its steps in a state that its checkpoints carry; ``trained`` has each step's number."""

    default_metric = "value"
    checkpoints = True
    trained: list[tuple[int, int]] = []  # noqa: RUF012 - emptied by the fixture

    class Options(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        steps: int = 4

    options: Options

    def space(self) -> dict[str, BaseDistribution]:
        return {"x": FloatDistribution(0.0, 1.0)}

    def steps(self) -> int:
        return self.options.steps

    def __call__(self, trial: Trial) -> float:
        found = trial.restore()
        state = np.zeros(1) if found is None else found[1]["state"].copy()
        for step in range(1 if found is None else found[0] + 1, self.options.steps + 1):
            state[0] += step
            self.trained.append((trial.number, step))
            trial.report(trial.params["x"] + step, step)
            after_step(trial, step)
            trial.checkpoint(step, lambda: {"state": state.copy()})
        assert state[0] == sum(range(1, self.options.steps + 1)), "the state went on whole"
        return float(trial.params["x"])


def plain(trial: Any) -> float | Sequence[float]:
    """Any function of a trial."""
    return function(trial)  # type: ignore[no-any-return]
