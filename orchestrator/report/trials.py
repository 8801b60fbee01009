"""A study's trials as Optuna has them: read, found, and ranked."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from orchestrator.eligibility import may_win
from orchestrator.errors import OrchError
from orchestrator.ranking import rank
from orchestrator.spec import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.study import StoredStudy


def read_trials(database: Database, study: StoredStudy) -> list[FrozenTrial]:
    """Every trial of the study.

    Raises:
        StorageError: the database is out of reach.
    """
    optuna_study = optuna.Study(study.name, PostgresStorage(database))
    return optuna_study.get_trials(deepcopy=False)


def find_trial(trials: Sequence[FrozenTrial], number: int, study: str) -> FrozenTrial:
    """The trial of that number.

    Raises:
        OrchError: there is none.
    """
    for trial in trials:
        if trial.number == number:
            return trial
    raise OrchError(f"study '{study}' has no trial {number}; it has {len(trials)} trials")


def ranking(trials: Sequence[FrozenTrial], spec: StudySpec) -> list[FrozenTrial]:
    """Those that may win in a study of one metric, the best first."""
    able = [trial for trial in trials if may_win(trial, spec.study.constraints)]
    maximize = spec.study.maximize
    return sorted(able, key=lambda trial: (rank(trial.value, maximize), trial.number))


def is_retried(trial: FrozenTrial) -> bool:
    """Whether it is a failed attempt that another trial stands for."""
    return "orch:retried_as" in trial.user_attrs
