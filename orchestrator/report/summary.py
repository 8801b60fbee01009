"""Summary: everything that a report says about a study, as data (DESIGN.md, the report's JSON)."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel

from orchestrator.errors import OrchError
from orchestrator.report.rungs import Rung, bracket_of, rungs
from orchestrator.search.pruners import build_pruner
from orchestrator.storage.database import Database
from orchestrator.storage.optuna_storage import open_optuna_storage
from orchestrator.study import StoredStudy, full_steps, make_objective

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class States(BaseModel):
    """How many trials are in which state; an attempt that was retried counts under its retry."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int


class Best(BaseModel):
    """The winner. ``std`` is the spread over repeats or folds; None with a single training."""

    number: int
    value: float
    params: dict[str, Any]
    epochs: int
    std: float | None


class Epochs(BaseModel):
    """Epochs trained, lost attempts included, beside what the same trials cost unpruned."""

    trained: int
    without_pruning: int
    saved_ratio: float | None


class WorkerSummary(BaseModel):
    """One worker process. ``busy_ratio``: the share of its presence with a trial."""

    id: str
    trials: int
    busy_ratio: float | None
    last_seen_seconds: float


class TrialSummary(BaseModel):
    """One trial. ``retry_of``: the number of the first attempt at the same configuration."""

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    intermediate: dict[str, float]
    bracket: int | None
    retry_of: int | None
    worker: str
    seconds: float | None
    reason: str | None


class Summary(BaseModel):
    """A study's report."""

    study: str
    objective: str
    metric: str
    direction: str
    sampler: str
    pruner: str
    budget: int
    states: States
    best: Best | None
    epochs: Epochs
    rungs: list[Rung]
    importances: dict[str, float]
    workers: list[WorkerSummary]
    retries: int
    elapsed_seconds: float
    data: dict[str, Any] | None
    trials: list[TrialSummary]


def summarise(database: Database, study: StoredStudy) -> Summary:
    """Read a study and draw its summary.

    Args:
        database: where the study is.
        study: the study; it may be running.

    Raises:
        StorageError: the database is out of reach.
    """
    steps, pruner = _steps_and_pruner(study)
    optuna_study = optuna.Study(study.name, open_optuna_storage(database.url), pruner=pruner)
    trials = optuna_study.get_trials(deepcopy=False)
    spec = study.spec
    assert spec.study.metric is not None and spec.study.direction is not None
    return Summary(
        study=study.name,
        objective=spec.study.objective,
        metric=spec.study.metric,
        direction=spec.study.direction,
        sampler=spec.sampler.name,
        pruner=spec.pruner.name,
        budget=spec.study.trials,
        states=_states(trials),
        best=_best(trials, spec.study.direction == "maximize"),
        epochs=_epochs(trials, steps),
        rungs=rungs(optuna_study, pruner, trials, spec.pruner.options),
        importances=_importances(optuna_study, trials),
        workers=_workers(database, study),
        retries=sum(1 for trial in trials if "orch:retried_as" in trial.user_attrs),
        elapsed_seconds=_elapsed(database, study),
        data=None if study.data is None else dict(study.data),
        trials=[_trial(optuna_study, pruner, trial) for trial in trials],
    )


def _steps_and_pruner(study: StoredStudy) -> tuple[int, BasePruner | None]:
    # A report can be read where the objective's module is not installed.
    try:
        steps = full_steps(study.spec, make_objective(study.spec))
    except OrchError:
        steps = study.spec.training.epochs
    try:
        return steps, build_pruner(study.spec, steps)
    except OrchError:
        return steps, None


def _states(trials: list[FrozenTrial]) -> States:
    def count(state: TrialState) -> int:
        return sum(1 for trial in trials if trial.state == state)

    final = sum(
        1
        for trial in trials
        if trial.state == TrialState.FAIL and "orch:retried_as" not in trial.user_attrs
    )
    return States(
        complete=count(TrialState.COMPLETE),
        pruned=count(TrialState.PRUNED),
        failed=final,
        running=count(TrialState.RUNNING),
        waiting=count(TrialState.WAITING),
    )


def _best(trials: list[FrozenTrial], maximize: bool) -> Best | None:
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    if not complete:
        return None

    def rank(trial: FrozenTrial) -> tuple[float, int]:
        assert trial.value is not None
        return (-trial.value if maximize else trial.value, trial.number)

    best = min(complete, key=rank)
    assert best.value is not None
    return Best(
        number=best.number,
        value=best.value,
        params=best.params,
        epochs=len(best.intermediate_values),
        std=None,
    )


def _epochs(trials: list[FrozenTrial], steps: int) -> Epochs:
    trained = sum(len(trial.intermediate_values) for trial in trials)
    ended = sum(1 for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED))
    full = ended * steps
    saved = None if trained == 0 or full == 0 else round(1 - trained / full, 4)
    return Epochs(trained=trained, without_pruning=full, saved_ratio=saved)


def _importances(study: optuna.Study, trials: list[FrozenTrial]) -> dict[str, float]:
    values = {t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None}
    if len(values) < 2 or not all(math.isfinite(value) for value in values):
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}  # too few trials have a parameter in common
    return {name: round(value, 4) for name, value in found.items() if math.isfinite(value)}


def _workers(database: Database, study: StoredStudy) -> list[WorkerSummary]:
    rows = database.rows("workers_of_study", study_id=study.study_id)
    return [
        WorkerSummary(
            id=row["name"],
            trials=row["trials"],
            busy_ratio=_busy(row["busy_seconds"] + row["leased_seconds"], row["present_seconds"]),
            last_seen_seconds=round(row["last_seen_seconds"], 1),
        )
        for row in rows
    ]


def _busy(busy: float, present: float) -> float | None:
    return None if present <= 0 else round(min(1.0, busy / present), 3)


def _elapsed(database: Database, study: StoredStudy) -> float:
    row = database.row("elapsed_seconds", study_id=study.study_id)
    return round((row and row["elapsed"]) or 0.0, 3)


def _trial(study: optuna.Study, pruner: BasePruner | None, trial: FrozenTrial) -> TrialSummary:
    attributes = trial.user_attrs
    finite = trial.value is not None and math.isfinite(trial.value)
    return TrialSummary(
        number=trial.number,
        state=trial.state.name,
        value=trial.value if finite else None,
        params=trial.params,
        intermediate={
            str(step): value for step, value in sorted(trial.intermediate_values.items())
        },
        bracket=bracket_of(study, pruner, trial),
        retry_of=attributes.get("orch:retry_of"),
        worker=attributes.get("orch:worker", ""),
        seconds=attributes.get("orch:seconds"),
        reason=attributes.get("orch:reason"),
    )
