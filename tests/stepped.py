"""An objective of steps whose checkpoints carry a state, which must go on whole."""

from __future__ import annotations

import numpy as np
import pydantic
from optuna.distributions import BaseDistribution, FloatDistribution

from orchestrator.objective import Objective, Trial


class SteppedOptions(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    steps: int = 4


class Stepped(Objective):
    """Sums the numbers of its steps in its state, and reports each step's above its parameter."""

    default_metric = "value"
    checkpoints = True
    Options = SteppedOptions
    options: SteppedOptions

    def space(self) -> dict[str, BaseDistribution]:
        return {"x": FloatDistribution(0.0, 1.0)}

    def steps(self) -> int:
        return self.options.steps

    def state_size(self) -> int:
        """How many numbers its state has."""
        return 1

    def train(self, trial: Trial, step: int) -> None:
        """Comes before each step's report."""

    def reported(self, trial: Trial, step: int) -> None:
        """Comes after each step's report, before its checkpoint."""

    def __call__(self, trial: Trial) -> float:
        found = trial.restore()
        state = np.zeros(self.state_size()) if found is None else found[1]["state"].copy()
        for step in range(1 if found is None else found[0] + 1, self.options.steps + 1):
            self.train(trial, step)
            state[0] += step
            trial.report(trial.params["x"] + step, step)
            self.reported(trial, step)
            trial.checkpoint(step, lambda: {"state": state.copy()})
        assert state[0] == sum(range(1, self.options.steps + 1)), "the state went on whole"
        return float(trial.params["x"])
