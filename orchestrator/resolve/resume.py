"""Resume: take up a stored study, after every check and in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.errors import UsageError
from orchestrator.resolve.objective import facts_of, make_objective
from orchestrator.resolve.pins import check_data, check_software, compare_data, record_mismatch
from orchestrator.resolve.resolve import resolve
from orchestrator.resolve.warm_start import store_new
from orchestrator.search.plans import is_planned
from orchestrator.spec.facts import ObjectiveFacts
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.studies import (
    StoredStudy,
    add_budget,
    ensure_budget,
    open_study,
    raise_budget,
    read,
    reopen,
    replace_spec,
    store_facts,
)


@dataclass(frozen=True)
class Resumed:
    """A study that is ready for workers.

    Attributes:
        study: as it is stored now.
        mismatch: how this machine's software differs, where that was allowed; empty: not at all.
    """

    study: StoredStudy
    mismatch: str = ""


def create_or_resume(
    database: Database, spec: StudySpec, allow_mismatch: bool = False, take_new: bool = False
) -> Resumed:
    """Store a new study, or take up the stored one of the same spec.

    A higher budget is taken over. Everything else must be equal.

    Args:
        database: where.
        spec: what the study is to be.
        allow_mismatch: take part even if this machine's software differs from the study's.
        take_new: where the spec or the objective's source differ, they hold for the trials to
            come; what the trials so far were measured by must be equal all the same.

    Raises:
        UsageError: the stored study differs; the message has the differences.
        StudyFailed: this machine's data or software differ from the study's.
    """
    resolved = resolve(spec)
    name = spec.study.name
    stored = read(database, name)
    if stored is None:
        return Resumed(store_new(database, resolved))
    resolved = replace(resolved, spec=_as_meant(resolved.spec, stored.spec))
    trials = max(stored.spec.study.trials, resolved.spec.study.trials)
    differences = stored.spec.with_budget(trials).differences(resolved.spec)
    fixed = [each for each in differences if _is_fixed(each, stored.spec, resolved.spec)]
    if fixed or (differences and not take_new):
        raise UsageError(
            f"study '{name}' exists with another spec ({'; '.join(fixed or differences)}); "
            f"use another --study, or 'orch resume {name}' to go on with the stored one"
        )
    mismatch = ""
    if _has_work(database, stored, trials):
        compare_data(stored, resolved.data)
        mismatch = check_software(database, stored, allow_mismatch or take_new)
    with database.transaction():
        ensure_budget(database, stored, trials)
        _take_up(database, stored, mismatch, resolved.facts)
        if take_new and (differences or mismatch):
            replace_spec(database, stored, resolved)
    return Resumed(open_study(database, name), mismatch)


def _as_meant(spec: StudySpec, stored: StudySpec) -> StudySpec:
    """A spec with the defaults of when its study was stored: TPE, and duplicates."""
    given, was = spec.sampler.model_fields_set, stored.sampler
    update: dict[str, object] = {}
    if "name" not in given and was.name == "tpe" and not was.options:
        update["name"] = was.name
    if "duplicates" not in given and was.duplicates:
        update["duplicates"] = True
    return spec.model_copy(update={"sampler": spec.sampler.model_copy(update=update)})


# By these the trials so far were measured: others could not be compared with them. A budget is
# only raised; older trials are copied when the study is created.
_FIXED = (
    "study.warm_start",
    "study.metric", "study.direction", "study.trials", "data.", "training.folds",
    "training.value",
)  # fmt: skip
_PLANNED = ("sampler.", "pruner.", "space.", "study.objective")


def _is_fixed(difference: str, stored: StudySpec, wanted: StudySpec) -> bool:
    planned = is_planned(stored) or is_planned(wanted)  # its trials are queued already
    return difference.startswith(_FIXED + (_PLANNED if planned else ()))


def resume(
    database: Database,
    name: str,
    trials: int | None = None,
    add: int | None = None,
    allow_mismatch: bool = False,
) -> Resumed:
    """Take up a stored study.

    Args:
        database: where.
        name: the study's name.
        trials: its new budget, which must be higher; None: as it is.
        add: instead, how many trials come on top.
        allow_mismatch: take part even if this machine's software differs from the study's.

    Raises:
        NoSuchStudy: there is none of that name.
        UsageError: the budget is not higher, or the objective cannot be loaded.
        StudyFailed: this machine's data or software differ from the study's.
    """
    study = open_study(database, name)
    budget = study.spec.study.trials + (add or 0) if trials is None else trials
    objective = make_objective(study.spec)
    mismatch = ""
    if _has_work(database, study, budget):
        check_data(study, objective)
        mismatch = check_software(database, study, allow_mismatch)
    with database.transaction():
        if trials is not None:
            raise_budget(database, study, trials)
        elif add is not None:
            add_budget(database, study, add)
        _take_up(database, study, mismatch, facts_of(study.spec, objective))
    return Resumed(open_study(database, name), mismatch)


def _take_up(
    database: Database, study: StoredStudy, mismatch: str, facts: ObjectiveFacts | None
) -> None:
    reopen(database, study)
    if mismatch:
        record_mismatch(database, study, mismatch)
    if facts is not None and study.facts.space is None:
        store_facts(database, study, facts)


def _has_work(database: Database, study: StoredStudy, budget: int) -> bool:
    """Whether trials are left to do; a study that is done may be looked at by any machine."""
    row = database.row("progress", study_id=study.study_id)
    return row is None or int(row["complete"] + row["pruned"]) < budget
