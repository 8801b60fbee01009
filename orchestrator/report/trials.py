"""A study's trials as Optuna has them: read, found, and ranked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.constraints import are_kept
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
    able = [trial for trial in trials if may_win(trial, spec)]
    maximize = spec.study.maximize
    return sorted(able, key=lambda trial: (rank(trial.value, maximize), trial.number))


def may_win(trial: FrozenTrial, spec: StudySpec) -> bool:
    """Whether it is complete and feasible, and all its values are finite."""
    return (
        trial.state == TrialState.COMPLETE
        and trial.values is not None
        and all(map(math.isfinite, trial.values))
        and is_feasible(trial, spec) is not False
    )


def is_feasible(trial: FrozenTrial, spec: StudySpec) -> bool | None:
    """Whether it keeps the study's constraints; None where there are none."""
    names = spec.study.constraints
    return are_kept(names, trial.user_attrs) if names else None


def is_retried(trial: FrozenTrial) -> bool:
    """Whether it is a failed attempt that another trial stands for."""
    return "orch:retried_as" in trial.user_attrs
