"""Any Optuna objective: a function that takes an ``optuna.Trial`` and returns a float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from objectives.base import Objective, Settings, Trial


class FunctionObjective(Objective):
    """Runs the user's function, unchanged, with the worker's own ``optuna.Trial``."""

    default_metric: ClassVar[str] = "value"

    def __init__(self, settings: Settings, function: Callable[[Any], float]) -> None:
        super().__init__(settings)
        self._function = function

    def __call__(self, trial: Trial) -> float:
        return self._function(trial)
