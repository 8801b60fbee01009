"""What the author of an objective needs, in one place.

An objective that is more than a function of an ``optuna.Trial`` derives from one of these bases. It
sees nothing else of orch::

    from orchestrator.objective import Objective, Trial

    class Bowl(Objective):
        default_metric = "value"

        def space(self):
            return {"x": optuna.distributions.FloatDistribution(-10, 10)}

        def __call__(self, trial: Trial) -> float:
            return (trial.params["x"] - 2) ** 2
"""

from __future__ import annotations

from orchestrator.errors import DataError, FailedTrialError, ObjectiveError
from orchestrator.training.base import NoOptions, Objective, Refit, Settings, Trial, log
from orchestrator.training.data import Array, DataFacts, Dataset
from orchestrator.training.estimator import EstimatorObjective
from orchestrator.training.function_state import checkpoint, restore
from orchestrator.training.keras import KerasObjective

__all__ = [
    "Array",
    "DataError",
    "DataFacts",
    "Dataset",
    "EstimatorObjective",
    "FailedTrialError",
    "KerasObjective",
    "NoOptions",
    "Objective",
    "ObjectiveError",
    "Refit",
    "Settings",
    "Trial",
    "checkpoint",
    "log",
    "restore",
]
