"""Summarise: read a study and draw what its report says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.errors import OrchError
from orchestrator.report.document import (
    Best,
    Epochs,
    States,
    Summary,
    TrialSummary,
    WorkerSummary,
)
from orchestrator.report.importance import fanova, ped_anova
from orchestrator.report.noise import epochs_of_one_training, rounds_of, spread
from orchestrator.report.rungs import Ladder
from orchestrator.report.verdict import verdict
from orchestrator.resolve import full_steps, make_objective
from orchestrator.search.promotion import build_brackets
from orchestrator.search.pruners import build_pruner
from orchestrator.software import versions
from orchestrator.spec import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.study import StoredStudy

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


def summarise(database: Database, study: StoredStudy, thorough: bool = False) -> Summary:
    """Read a study and draw its summary.

    Args:
        database: where the study is.
        study: the study; it may be running.
        thorough: with what takes seconds to work out, the importances by fANOVA.

    Raises:
        StorageError: the database is out of reach.
    """
    steps, pruner, uses_epochs = _steps_and_pruner(study)
    optuna_study = optuna.Study(study.name, PostgresStorage(database), pruner=pruner)
    trials = optuna_study.get_trials(deepcopy=False)
    spec = study.spec
    metrics, directions = list(spec.study.metrics), list(spec.study.directions)
    one = len(metrics) == 1
    # A pruner that cannot be made here has no brackets to show.
    brackets = None if pruner is None else build_brackets(spec, steps)
    ladder = Ladder(optuna_study, pruner, spec.pruner.options, brackets)
    first_start = min(
        (trial.datetime_start for trial in trials if trial.datetime_start), default=None
    )
    summary = Summary(
        study=study.name,
        objective=spec.study.objective,
        metric=metrics[0] if one else metrics,
        direction=directions[0] if one else directions,
        sampler=spec.sampler.name,
        pruner=spec.pruner.name,
        budget=spec.study.trials,
        states=_states(trials),
        best=_best(trials, spec, uses_epochs) if one else None,
        pareto=[] if one else _pareto(optuna_study, trials, spec),
        rounds=spec.training.rounds,
        epochs=_epochs(trials, steps, spec, uses_epochs),
        rungs=ladder.rungs(trials),
        importances=ped_anova(optuna_study, trials) if one else {},
        importances_fanova=fanova(trials, directions[0]) if one and thorough else None,
        workers=_workers(database, study),
        retries=sum(1 for trial in trials if "orch:retried_as" in trial.user_attrs),
        elapsed_seconds=_elapsed(database, study),
        data=None if study.data is None else dict(study.data),
        mismatches=[
            row["mismatch"] for row in database.rows("read_mismatches", study_id=study.study_id)
        ],
        spec=spec.document(),
        versions=versions(),
        trials=[_trial(ladder, trial, spec, first_start) for trial in trials],
    )
    summary.verdict = verdict(summary)
    return summary


def read_trials(database: Database, study: StoredStudy) -> list[FrozenTrial]:
    """Every trial of the study, as Optuna has it.

    Raises:
        StorageError: the database is out of reach.
    """
    optuna_study = optuna.Study(study.name, PostgresStorage(database))
    return optuna_study.get_trials(deepcopy=False)


def _steps_and_pruner(study: StoredStudy) -> tuple[int, BasePruner | None, bool]:
    # A report can be read where the objective's module is not installed.
    try:
        objective = make_objective(study.spec)
        steps, uses_epochs = full_steps(study.spec, objective), objective.uses_epochs
    except OrchError:
        steps, uses_epochs = study.spec.training.epochs, True
    try:
        return steps, build_pruner(study.spec, steps), uses_epochs
    except OrchError:
        return steps, None, uses_epochs


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


def _best(trials: list[FrozenTrial], spec: StudySpec, uses_epochs: bool) -> Best | None:
    ranked = ranking(trials, spec)
    if not ranked:
        return None
    best = ranked[0]
    assert best.value is not None
    rounds = rounds_of(best, spec.training)
    noise = spread(rounds)
    return Best(
        number=best.number,
        value=best.value,
        params=best.params,
        epochs=_epochs_of_best(best, spec, uses_epochs),
        std=noise and noise.std,
        standard_error=noise and noise.standard_error,
        trainings=max(1, len(rounds)),
    )


def _epochs_of_best(best: FrozenTrial, spec: StudySpec, uses_epochs: bool) -> int:
    if spec.training.rounds == 1:
        return len(best.intermediate_values)
    return epochs_of_one_training(best, spec.training) if uses_epochs else 1


def ranking(trials: Sequence[FrozenTrial], spec: StudySpec) -> list[FrozenTrial]:
    """The complete, feasible trials of a study of one metric, the best first."""
    sign = -1 if spec.study.directions[0] == "maximize" else 1
    complete = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE
        and trial.value is not None
        and _is_feasible(trial, spec) is not False
    ]
    return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def _pareto(study: optuna.Study, trials: list[FrozenTrial], spec: StudySpec) -> list[int]:
    feasible = {trial.number for trial in trials if _is_feasible(trial, spec) is not False}
    return [trial.number for trial in study.best_trials if trial.number in feasible]


def _is_feasible(trial: FrozenTrial, spec: StudySpec) -> bool | None:
    names = spec.study.constraints
    if not names:
        return None
    return all(float(trial.user_attrs.get(name, math.inf)) <= 0 for name in names)


def _epochs(trials: list[FrozenTrial], steps: int, spec: StudySpec, uses_epochs: bool) -> Epochs:
    def of_one_value(trial: FrozenTrial) -> int:
        # A fold or repeat is one value, and a whole training.
        one = spec.training.rounds == 1 or not uses_epochs
        return 1 if one else epochs_of_one_training(trial, spec.training)

    def of_full_trial(trial: FrozenTrial) -> int:
        if spec.training.rounds == 1 and "epochs" in trial.params:
            return epochs_of_one_training(trial, spec.training)
        return steps * of_one_value(trial)

    trained = sum(len(trial.intermediate_values) * of_one_value(trial) for trial in trials)
    ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    full = sum(map(of_full_trial, ended))
    if trained == 0:  # an objective that reports nothing has no epochs to save
        full = 0
    saved = None if trained == 0 or full == 0 else round(1 - trained / full, 4)
    return Epochs(trained=trained, without_pruning=full, saved_ratio=saved)


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


def _trial(
    ladder: Ladder, trial: FrozenTrial, spec: StudySpec, first_start: datetime | None
) -> TrialSummary:
    attributes = trial.user_attrs
    values = trial.values
    finite = values is not None and all(map(math.isfinite, values))
    noise = spread(rounds_of(trial, spec.training))
    return TrialSummary(
        number=trial.number,
        state=trial.state.name,
        value=values[0] if finite else None,
        values=list(values) if finite else None,
        std=noise and noise.std,
        standard_error=noise and noise.standard_error,
        params=trial.params,
        intermediate={
            str(step): value if math.isfinite(value) else None
            for step, value in sorted(trial.intermediate_values.items())
        },
        bracket=ladder.bracket_of(trial),
        retry_of=attributes.get("orch:retry_of"),
        worker=attributes.get("orch:worker", ""),
        seconds=attributes.get("orch:seconds"),
        reason=attributes.get("orch:reason"),
        feasible=_is_feasible(trial, spec) if trial.state.is_finished() else None,
        started_seconds=_seconds_after(first_start, trial.datetime_start),
        ended_seconds=_seconds_after(first_start, trial.datetime_complete),
        attributes={k: v for k, v in attributes.items() if not k.startswith("orch:")},
    )


def _seconds_after(first: datetime | None, moment: datetime | None) -> float | None:
    if first is None or moment is None:
        return None
    return round((moment - first).total_seconds(), 3)
