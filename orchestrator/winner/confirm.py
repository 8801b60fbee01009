"""Confirm: the best trials trained again with fresh seeds. Is the winner really better?

Each is a trial of a study of its own, so that any number of workers on any machine may share them.
"""

from __future__ import annotations

from datetime import datetime

from optuna.trial import FrozenTrial

from orchestrator.errors import OrchError, UsageError
from orchestrator.report.confirmation import CONFIRMS, link_confirmation
from orchestrator.resolve.objective import check_can_run, make_objective
from orchestrator.resolve.pins import check_data
from orchestrator.resolve.queue import queue
from orchestrator.resolve.resume import create_or_resume
from orchestrator.spec.model import PrunerSection, SamplerSection, StudySpec, TerminatorSection
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, ranking, read
from orchestrator.worker.seeds import derive


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
