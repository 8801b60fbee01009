"""Any Optuna objective: a function that takes an ``optuna.Trial`` and returns a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from orchestrator.training.base import Objective, Settings, Trial


class FunctionObjective(Objective):
    """Runs the user's function, unchanged, with the worker's own ``optuna.Trial``."""

    default_metric: ClassVar[str] = "value"

    def __init__(
        self, settings: Settings, function: Callable[[Any], float | Sequence[float]]
    ) -> None:
        super().__init__(settings)
        self._function = function

    def __call__(self, trial: Trial) -> float | Sequence[float]:
        return self._function(trial)
