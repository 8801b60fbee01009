"""A quadratic bowl: pure Python, for tests and load."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import ClassVar

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.objective import Objective, Trial


class QuadraticOptions(BaseModel):
    """``[objective]`` of ``quadratic``.

    Attributes:
        sleep: seconds that each step takes.
        steps: values reported by a full trial.
        failure_rate: the probability that an attempt fails. Drawn from the operating system, not
            from the trial's seed, so that a retry may succeed.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    sleep: float = Field(default=0.0, ge=0)
    steps: int = Field(default=5, ge=1)
    failure_rate: float = Field(default=0.0, ge=0, le=1)


class Quadratic(Objective):
    """Minimises (x - 2)^2 + (y + 3)^2 over x and y in -10..10."""

    default_metric: ClassVar[str] = "value"
    Options: ClassVar[type[BaseModel]] = QuadraticOptions
    checkpoints: ClassVar[bool] = True
    options: QuadraticOptions

    def space(self) -> dict[str, BaseDistribution]:
        return {"x": FloatDistribution(-10.0, 10.0), "y": FloatDistribution(-10.0, 10.0)}

    def known_metrics(self) -> Sequence[str]:
        return ("value",)

    def steps(self) -> int:
        return self.options.steps

    def __call__(self, trial: Trial) -> float:
        options = self.options
        if random.SystemRandom().random() < options.failure_rate:
            raise RuntimeError("failed on purpose (objective.failure_rate)")
        value: float = (trial.params["x"] - 2) ** 2 + (trial.params["y"] + 3) ** 2
        found = trial.restore()
        for step in range(1 if found is None else found[0] + 1, options.steps + 1):
            time.sleep(options.sleep)
            # Approaches its value from above, as a loss does.
            trial.report(value * (1 + 1 / step - 1 / options.steps), step)
            if step < options.steps and trial.should_prune():
                raise optuna.TrialPruned
            trial.checkpoint(step, dict)
        return value
