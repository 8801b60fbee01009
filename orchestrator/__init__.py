"""orch: distributed hyperparameter studies on Optuna and PostgreSQL.

    import orchestrator as orch

    study = orch.create_study("bowl", objective="quadratic", trials=20)
    study.run(workers=2)
    print(study.best.params)

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from orchestrator.errors import (
    DataError,
    FailedTrialError,
    NoSuchStudy,
    ObjectiveError,
    OrchError,
    StorageError,
    StorageRefused,
    StorageUnavailable,
    StudyFailed,
    UsageError,
)

if TYPE_CHECKING:
    from orchestrator.objective import (
        EstimatorObjective,
        KerasObjective,
        Objective,
        checkpoint,
        log,
        restore,
    )
    from orchestrator.spec.model import StudySpec
    from orchestrator.studies import (
        compare,
        create_study,
        import_kerastuner,
        import_optuna,
        list_studies,
        load_study,
        search_space,
    )
    from orchestrator.study import Study
    from orchestrator.training.command import Command
    from orchestrator.training.data_source import Data

__all__ = [
    "Command",
    "Data",
    "DataError",
    "EstimatorObjective",
    "FailedTrialError",
    "KerasObjective",
    "NoSuchStudy",
    "Objective",
    "ObjectiveError",
    "OrchError",
    "StorageError",
    "StorageRefused",
    "StorageUnavailable",
    "Study",
    "StudyFailed",
    "StudySpec",
    "UsageError",
    "checkpoint",
    "compare",
    "create_study",
    "import_kerastuner",
    "import_optuna",
    "list_studies",
    "load_study",
    "log",
    "restore",
    "search_space",
]

# The only logger of ours. Whoever uses orch decides where its messages go.
logging.getLogger("orch").addHandler(logging.NullHandler())

_MODULES = {
    "Command": "training.command",
    "Data": "training.data_source",
    "EstimatorObjective": "objective",
    "KerasObjective": "objective",
    "Objective": "objective",
    "Study": "study",
    "StudySpec": "spec.model",
    "checkpoint": "objective",
    "log": "objective",
    "restore": "objective",
}
_PUBLIC = {"doctor", "launch", "objective", "samplers", "server", "workers"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        from orchestrator.base.extras import DISTRIBUTION

        return version(DISTRIBUTION)
    if name in _PUBLIC:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'studies')}")
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PUBLIC})
