"""Confirm: the best trials trained again with fresh seeds. Is the winner really better?

Each is a trial of a study of its own, so that any number of workers on any machine may share them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from optuna.trial import FrozenTrial

from orchestrator.base.printed import Printed, table_columns
from orchestrator.errors import OrchError, UsageError
from orchestrator.report.listing import confirmed_table, table
from orchestrator.report.numbers import percent
from orchestrator.report.winner import (
    CLEAR_PROBABILITY,
    CONFIRMS,
    Confirmed,
    confirmed,
    keep_confirmation,
    link_confirmation,
)
from orchestrator.resolve.objective import check_can_run, make_objective
from orchestrator.resolve.pins import check_data
from orchestrator.resolve.queue import queue
from orchestrator.resolve.resolve import create_or_resume
from orchestrator.spec.model import PrunerSection, SamplerSection, StudySpec, TerminatorSection
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, ranking, read, read_trials
from orchestrator.worker.seeds import derive


class ConfirmedTrials(list[Confirmed], Printed):
    """The best trials over fresh seeds, the best mean first; prints as a table and a verdict.

    Args:
        metric: what the values are of.
        found: the trials.
    """

    def __init__(self, metric: str, found: Sequence[Confirmed]) -> None:
        super().__init__(found)
        self.metric = metric

    def to_json(self) -> str:
        """The trials as JSON, as ``orch confirm --format json`` prints them."""
        return json.dumps([json.loads(each.model_dump_json()) for each in self], indent=2)

    def __str__(self) -> str:
        return f"{table(*confirmed_table(self.metric, self), table_columns())}\n{self._verdict()}"

    def _verdict(self) -> str:
        if not self or self[0].probability_best is None:
            return "too few values to say which is best"
        best = self[0]
        certain = (
            "is the best beyond reasonable doubt"
            if (best.probability_best or 0) >= CLEAR_PROBABILITY
            else "leads, and the others are not ruled out; more seeds would tell"
        )
        return f"trial {best.number} {certain} (probability {percent(best.probability_best)})"


def read_confirmed(
    database: Database, study: StoredStudy, trials: list[FrozenTrial], confirming: StoredStudy
) -> ConfirmedTrials:
    """What a confirming study has found, which is kept with the study that it confirms."""
    keep_confirmation(database, confirming)
    fresh = read_trials(database, confirming)
    found = confirmed(trials, fresh, study.spec.study.maximize)
    return ConfirmedTrials(study.spec.study.metrics[0], found)


def confirm_study(
    database: Database, study: StoredStudy, trials: list[FrozenTrial], top: int, seeds: int
) -> StoredStudy:
    """Make the study ``NAME-confirm`` of ``top`` times ``seeds`` trials, or take it up again.

    Raises:
        OrchError: there are not that many complete trials.
        UsageError: that study exists for other trials or seeds.
        StudyFailed: this machine's data are not the study's.
    """
    check_can_run(study.spec)
    if len(study.spec.study.metrics) > 1:
        raise UsageError("a study of several metrics has no single winner to confirm")
    best = ranking(trials, study.spec)[:top]
    if len(best) < top:
        raise OrchError(
            f"study '{study.name}' has {len(best)} complete, feasible trials; "
            f"--top {top} needs as many"
        )
    check_data(study, make_objective(study.spec))
    numbers = [trial.number for trial in best]
    spec = _spec(study.spec, numbers, seeds)
    _check_existing(database, study, spec)
    # Seed by seed, so that a look on the way compares like with like. The stage makes it happen
    # once, however often the command is given.
    wanted = [trial for _ in range(seeds) for trial in best]
    stored = create_or_resume(database, spec).study
    with database.transaction():
        queue(
            database,
            stored,
            [trial.params for trial in wanted],
            [{CONFIRMS: trial.number} for trial in wanted],
            stage=0,
        )
        link_confirmation(database, study, stored, numbers, seeds)
    return stored


def _check_existing(database: Database, study: StoredStudy, spec: StudySpec) -> None:
    stored = read(database, spec.study.name)
    if stored is None:
        return
    # A study that was deleted may have left its confirmation to one of the same name.
    is_older = datetime.fromisoformat(stored.created_at) < datetime.fromisoformat(study.created_at)
    if is_older or stored.spec.study.note != spec.study.note:
        raise UsageError(
            f"study '{stored.name}' is an earlier confirmation, of other trials or seeds; to "
            f"confirm '{study.name}' anew, remove it with: orch delete {stored.name} --yes"
        )


def _spec(spec: StudySpec, numbers: list[int], seeds: int) -> StudySpec:
    name = f"{spec.study.name}-confirm"
    listed = ", ".join(map(str, numbers))
    section = spec.study.model_copy(
        update={
            "name": name,
            "trials": len(numbers) * seeds,
            "timeout": None,
            "warm_start": (),
            "note": f"Trials {listed} of study {spec.study.name}, each with {seeds} fresh seeds.",
        }
    )
    training = spec.training.model_copy(
        update={"seed": derive(spec.training.seed, "confirm"), "repeats": 1}
    )
    return spec.model_copy(
        update={
            "study": section,
            "training": training,
            "sampler": SamplerSection(name="enqueued"),
            "pruner": PrunerSection(name="none"),
            "terminator": TerminatorSection(),
            "worker": spec.worker.model_copy(update={"keep_models": 0}),
        }
    )
