"""Summarise: read a study and draw what its report says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.base.optuna_internals import pareto_front
from orchestrator.errors import OrchError
from orchestrator.report.figures.search import MOST_LOGGED_STEPS, with_drawn_logs
from orchestrator.report.importance import ImportanceClaim, Importances, assess
from orchestrator.report.pruning import EpochCounter, Epochs, Ladder, Rung
from orchestrator.report.section import Sections, section
from orchestrator.report.summary import (
    MOST_BEST,
    Best,
    States,
    Summary,
    TrialSummary,
    WorkerSummary,
    best_over_time,
    ranked,
)
from orchestrator.report.verdict import verdict
from orchestrator.report.winner import (
    choose_winner,
    read_confirmation,
    read_refit,
    rounds_of,
    spread,
)
from orchestrator.resolve.pins import versions
from orchestrator.search.auto import samplers_used
from orchestrator.search.plans.rounds import build_rounds, is_paused
from orchestrator.search.pruners import build_pruner
from orchestrator.spec.eligibility import feasible, may_win
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import (
    IMPORTED,
    Origin,
    StoredStudy,
    is_retried,
    origin_of,
    ranking,
    read_last_lines,
    read_logs,
)

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

_NO_EPOCHS = Epochs(trained=0, without_pruning=0, saved_ratio=None)


@np.errstate(all="ignore")  # NumPy's error state here is that of the caller's process
def summarise(
    database: Database,
    study: StoredStudy,
    thorough: bool = False,
    logs: Literal["none", "drawn", "all"] = "none",
) -> Summary:
    """Read a study and draw its summary.

    Args:
        database: where the study is.
        study: the study; it may be running.
        thorough: with the importances by fANOVA, whether a claim depends on them or not.
        logs: which trials' logs are read; those of thousands take seconds. ``"drawn"`` are those
            that the page draws. With any of them, what trials printed last.

    Raises:
        StorageError: the database is out of reach.
    """
    spec, sections = study.spec, Sections()
    make = sections.make
    storage = PostgresStorage(database)
    origin = origin_of(storage.get_study_user_attrs(study.study_id))
    can_run = spec.study.objective != IMPORTED
    counter = EpochCounter(study, origin)
    optuna_study = optuna.Study(study.name, storage)
    trials = optuna_study.get_trials(deepcopy=False)
    metrics, directions = list(spec.study.metrics), list(spec.study.directions)
    one = len(metrics) == 1
    found = make(
        "importances",
        "The importance of the parameters",
        partial(_importances, trials, spec, thorough),
    ) or Importances({}, None, ImportanceClaim())
    confirmed = make(
        "confirmed", "The confirmation", partial(read_confirmation, database, study, trials)
    )
    rungs, bracket_of, paused = make(
        "rungs",
        "The brackets and rungs",
        partial(_rungs, optuna_study, trials, spec, counter.steps),
    ) or ([], {}, set[int]())
    listed = _trials(bracket_of, paused, trials, spec, origin)
    best = make("best", "The best trial", partial(_best, trials, spec, counter))
    if logs != "none":
        drawn = logs == "drawn"
        make(
            "logs", "What the trials log", partial(_add_logs, database, study, listed, best, drawn)
        )
        make("printed", "What trials printed", partial(_add_printed, database, study, listed))
    used = samplers_used(spec, trials)
    summary = Summary(
        study=study.name,
        objective=spec.study.objective,
        metric=metrics[0] if one else metrics,
        direction=directions[0] if one else directions,
        sampler=spec.sampler.name if can_run else "unknown",
        samplers=used.counts if used else {},
        sampler_reason=used.reason if used else None,
        pruner=spec.pruner.name if can_run else "unknown",
        budget=spec.study.trials,
        states=_states(trials),
        best=best,
        best_over_time=best_over_time(listed, spec.study.maximize) if one else [],
        confirmed=confirmed,
        refit=make("refit", "The refit", partial(read_refit, database, study)),
        winner=make("winner", "The winner", partial(choose_winner, trials, study, confirmed)),
        pareto=make("pareto", "The Pareto front", partial(_pareto, optuna_study, trials, spec))
        or [],
        rounds=spec.training.rounds,
        has_epochs=counter.has_epochs,
        epochs=make("epochs", "What it cost", partial(counter.count, trials)) or _NO_EPOCHS,
        rungs=rungs,
        importances=found.shares,
        importances_fanova=found.fanova,
        importance_claim=found.claim,
        workers=make("workers", "The workers", partial(_workers, database, study, listed)) or [],
        retries=sum(map(is_retried, trials)),
        elapsed_seconds=_elapsed(database, study),
        data=None if study.data is None else dict(study.data),
        mismatches=_mismatches(database, study),
        failed_because=study.reason if study.state == "failed" else None,
        ended_because=study.reason if study.state in ("exhausted", "stopping") else None,
        spec=spec.document(),
        versions=versions(),
        imported=origin,
        trials=listed,
        missing=sections.missing,
    )
    summary.verdict = verdict(summary)
    return summary


def _importances(trials: list[FrozenTrial], spec: StudySpec, thorough: bool) -> Importances:
    if len(spec.study.metrics) > 1:
        return Importances({}, None, ImportanceClaim())
    return assess(trials, spec.study.maximize, spec.training.seed, thorough)


def _rungs(
    study: optuna.Study, trials: list[FrozenTrial], spec: StudySpec, steps: int
) -> tuple[list[Rung], dict[int, int | None], set[int]]:
    """The rungs, the bracket of each trial by its number, and the numbers of those paused."""
    # A pruner that cannot be made here has no brackets to show.
    pruner = _pruner(spec, steps)
    rounds = None if pruner is None else build_rounds(spec, steps)
    ladder = Ladder(study, pruner, spec.pruner.options, rounds)
    bracket_of = {trial.number: ladder.bracket_of(trial) for trial in trials}
    paused = {trial.number for trial in trials if is_paused(trial, rounds)}
    return ladder.rungs(trials), bracket_of, paused


def _pruner(spec: StudySpec, steps: int) -> BasePruner | None:
    try:
        return build_pruner(spec, steps)
    except OrchError:
        return None


def _states(trials: list[FrozenTrial]) -> States:
    def count(state: TrialState) -> int:
        return sum(1 for trial in trials if trial.state == state)

    final = sum(1 for trial in trials if trial.state == TrialState.FAIL and not is_retried(trial))
    return States(
        complete=count(TrialState.COMPLETE),
        pruned=count(TrialState.PRUNED),
        failed=final,
        running=count(TrialState.RUNNING),
        waiting=count(TrialState.WAITING),
    )


def _best(trials: list[FrozenTrial], spec: StudySpec, counter: EpochCounter) -> Best | None:
    ranked = ranking(trials, spec) if len(spec.study.metrics) == 1 else []
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
        epochs=counter.of_one_training(best),
        std=noise and noise.std,
        standard_error=noise and noise.standard_error,
        trainings=max(1, len(rounds)),
    )


def _pareto(study: optuna.Study, trials: list[FrozenTrial], spec: StudySpec) -> list[int]:
    if len(spec.study.metrics) == 1:
        return []
    # Study.best_trials would let a trial that may not win beat others.
    able = [trial for trial in trials if may_win(trial, spec.study.constraints)]
    front = pareto_front(able, study.directions)
    return [trial.number for trial in front]


def _workers(
    database: Database, study: StoredStudy, trials: Sequence[TrialSummary]
) -> list[WorkerSummary]:
    rows = database.rows("workers_of_study", study_id=study.study_id)
    # A trial that its plan ends has no worker that ends it: it is its last worker's.
    paused = Counter(trial.worker for trial in trials if trial.paused)
    newest = {row["name"]: row["worker_id"] for row in rows}
    return [
        WorkerSummary(
            id=row["name"],
            trials=row["trials"]
            + (paused[row["name"]] if newest[row["name"]] == row["worker_id"] else 0),
            busy_ratio=_busy(row["busy_seconds"] + row["leased_seconds"], row["present_seconds"]),
            joined_seconds=round(row["joined_seconds"], 3),
            last_seen_seconds=round(row["last_seen_seconds"], 3),
        )
        for row in rows
    ]


def _busy(busy: float, present: float) -> float | None:
    return None if present <= 0 else round(min(1.0, busy / present), 3)


def _elapsed(database: Database, study: StoredStudy) -> float:
    row = database.row("elapsed_seconds", study_id=study.study_id)
    return round((row and row["elapsed"]) or 0.0, 3)


def _mismatches(database: Database, study: StoredStudy) -> list[str]:
    rows = database.rows("read_mismatches", study_id=study.study_id)
    return [row["mismatch"] for row in rows]


def _trials(
    bracket_of: Mapping[int, int | None],
    paused: Container[int],
    trials: list[FrozenTrial],
    spec: StudySpec,
    origin: Origin | None,
) -> list[TrialSummary]:
    starts = (trial.datetime_start for trial in trials if trial.datetime_start)
    first_start = min(starts, default=None)

    def whole(trial: FrozenTrial) -> TrialSummary:
        bracket, own_origin = bracket_of.get(trial.number), _origin_of_trial(trial, origin)
        return _trial(bracket, trial.number in paused, trial, spec, first_start, own_origin)

    return [
        section(f"Trial {trial.number}", partial(whole, trial), partial(_bare_trial, trial, spec))
        for trial in trials
    ]


def _bare_trial(trial: FrozenTrial, spec: StudySpec, line: str) -> TrialSummary:
    """Of a trial with facts that cannot be read, what Optuna itself knows; the line says why."""
    finite = trial.values is not None and all(map(math.isfinite, trial.values))
    return TrialSummary(
        number=trial.number,
        state=trial.state.name,
        value=trial.values[0] if finite else None,
        values=list(trial.values) if finite else None,
        std=None,
        standard_error=None,
        params=trial.params,
        intermediate={},
        bracket=None,
        retry_of=None,
        worker="",
        seconds=None,
        reason=line,
        feasible=feasible(trial, spec.study.constraints) if trial.state.is_finished() else None,
        started_seconds=None,
        ended_seconds=None,
        attributes={},
    )


def _add_logs(
    database: Database,
    study: StoredStudy,
    trials: list[TrialSummary],
    best: Best | None,
    drawn: bool,
) -> None:
    if drawn:
        numbers = [trial.number for trial in with_drawn_logs(trials, best)]
        found = read_logs(database, study, numbers, MOST_LOGGED_STEPS)
    else:
        found = read_logs(database, study)
    for trial in trials:
        trial.logs = {
            name: {
                str(step): value if math.isfinite(value) else None
                for step, value in sorted(curve.items())
            }
            for name, curve in found.get(trial.number, {}).items()
        }


def _add_printed(database: Database, study: StoredStudy, trials: list[TrialSummary]) -> None:
    maximize = study.spec.study.directions[0] == "maximize"
    best = [trial.number for trial in ranked(trials, maximize)[:MOST_BEST]]
    found = read_last_lines(database, study.study_id, numbers=best)
    lines = {each.number: each.text for each in found}
    for trial in trials:
        trial.printed = lines.get(trial.number)


def _origin_of_trial(trial: FrozenTrial, origin: Origin | None) -> Origin | None:
    return origin if origin is not None and trial.number < origin.trials else None


def _trial(
    bracket: int | None,
    paused: bool,
    trial: FrozenTrial,
    spec: StudySpec,
    first_start: datetime | None,
    origin: Origin | None,
) -> TrialSummary:
    attributes = trial.user_attrs
    values = trial.values
    finite = values is not None and all(map(math.isfinite, values))
    noise = spread(rounds_of(trial, spec.training))
    timed = origin is None or origin.has_times
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
        bracket=bracket,
        retry_of=attributes.get(facts.RETRY_OF),
        worker=attributes.get(facts.WORKER, ""),
        seconds=_seconds(trial, origin),
        reason=attributes.get(facts.REASON),
        feasible=feasible(trial, spec.study.constraints) if trial.state.is_finished() else None,
        started_seconds=_seconds_after(first_start, trial.datetime_start) if timed else None,
        ended_seconds=_seconds_after(first_start, trial.datetime_complete) if timed else None,
        attributes={k: v for k, v in attributes.items() if not k.startswith(facts.PREFIX)},
        paused=paused,
    )


def _seconds(trial: FrozenTrial, origin: Origin | None) -> float | None:
    """How long it trained, as its worker says; of an imported trial, from its start to its end."""
    if facts.SECONDS in trial.user_attrs or origin is None or not origin.has_times:
        return trial.user_attrs.get(facts.SECONDS)
    return _seconds_after(trial.datetime_start, trial.datetime_complete)


def _seconds_after(first: datetime | None, moment: datetime | None) -> float | None:
    if first is None or moment is None:
        return None
    return round((moment - first).total_seconds(), 3)
