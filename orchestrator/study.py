"""Studies in a database: create, open, resume, stop and delete one from its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import Json

from orchestrator.choices import read_domain
from orchestrator.errors import NoSuchStudy, UsageError, nearest
from orchestrator.resolve.facts import ObjectiveFacts
from orchestrator.resolve.resolve import Resolved, resolve
from orchestrator.search.plans import is_planned
from orchestrator.search.space import Space
from orchestrator.software import software_of
from orchestrator.spec import StudySpec
from orchestrator.storage.database import Database


@dataclass(frozen=True)
class StoredStudy:
    """A study as the database has it; ``facts`` are those of its objective."""

    study_id: int
    name: str
    spec: StudySpec
    data: Mapping[str, Any] | None
    facts: ObjectiveFacts
    state: str
    reason: str | None
    created_at: str


def create(database: Database, spec: StudySpec) -> StoredStudy:
    """Store a new study.

    Raises:
        UsageError: the spec is wrong, or a study of that name exists.
    """
    return insert(database, resolve(spec))


def open_study(database: Database, name: str) -> StoredStudy:
    """The stored study of that name.

    Raises:
        NoSuchStudy: there is none; the message has the nearest name.
    """
    stored = read(database, name)
    if stored is None:
        names = [row["name"] for row in database.rows("list_studies")]
        raise NoSuchStudy(f"no study '{name}' in this storage; {nearest(name, names)}")
    return stored


def raise_budget(database: Database, study: StoredStudy, trials: int) -> None:
    """Give the study a higher budget.

    Raises:
        UsageError: it is not higher.
    """
    if not ensure_budget(database, study, trials):
        budget = open_study(database, study.name).spec.study.trials
        raise UsageError(
            f"the budget of '{study.name}' is {budget} already; --trials must be higher, or use "
            "--add N"
        )


def ensure_budget(database: Database, study: StoredStudy, trials: int) -> bool:
    """Give the study that budget, unless it has as many trials or more. Whether it is new."""
    return bool(database.rows("raise_budget", study_id=study.study_id, budget=trials))


def add_budget(database: Database, study: StoredStudy, trials: int) -> None:
    """Add trials to the budget; of two that do so at once, both count."""
    database.rows("add_budget", study_id=study.study_id, trials=trials)


def reopen(database: Database, study: StoredStudy) -> None:
    """Take up a study that was stopped, ran out of time or failed."""
    database.rows("open_study", study_id=study.study_id)


def stop(database: Database, study: StoredStudy) -> int:
    """Drain: running trials finish, no new one starts, wherever the workers are.

    Returns:
        How many workers are alive.
    """
    database.rows("stop_study", study_id=study.study_id)
    row = database.row(
        "count_live_workers",
        study_id=study.study_id,
        grace_seconds=study.spec.worker.grace_seconds,
    )
    return int(row["live"]) if row else 0


def delete(database: Database, study: StoredStudy) -> None:
    """Remove the study with all its trials, from Optuna's tables and from ours."""
    database.rows("delete_study", study_id=study.study_id)


def insert(database: Database, resolved: Resolved) -> StoredStudy:
    """Store a resolved spec, and the facts of its data and its objective.

    Raises:
        UsageError: the name is taken.
    """
    with database.transaction():
        insert_rows(database, resolved)
    return open_study(database, resolved.spec.study.name)


def insert_rows(database: Database, resolved: Resolved) -> int:
    """The rows of :func:`insert`, for a caller who has begun a transaction; the study's id."""
    spec, data, facts = resolved.spec, resolved.data, resolved.facts
    row = database.row(
        "insert_study",
        name=spec.study.name,
        directions=[direction.upper() for direction in spec.study.directions],
    )
    if row is None:
        raise UsageError(
            f"study '{spec.study.name}' exists already; use another name, or "
            f"'orch resume {spec.study.name}' to go on with it"
        )
    study_id = int(row["study_id"])
    database.rows(
        "insert_orch_study",
        study_id=study_id,
        metrics=list(spec.study.metrics),
        planned=is_planned(spec),
        note=Json(spec.study.note),
        spec=Json(spec.document()),
        budget=spec.study.trials,
        timeout=spec.study.timeout,
        data=None if data is None else Json(data),
        objective=None if facts is None else Json(facts.as_json()),
    )
    software = Json(software_of(spec.study.objective))
    database.rows("pin_software", study_id=study_id, software=software)
    return study_id


def read(database: Database, name: str) -> StoredStudy | None:
    """The stored study of that name; None: there is none.

    Raises:
        UsageError: it is a plain Optuna study, which orch did not create.
    """
    row = database.row("read_study", name=name)
    if row is None:
        if database.row("study_is_foreign", name=name):
            raise UsageError(
                f"'{name}' is a plain Optuna study that orch did not create; use another name"
            )
        return None
    spec = StudySpec.parse(row.pop("spec"))
    facts = ObjectiveFacts.read(row.pop("objective"), spec)
    return StoredStudy(spec=spec, facts=facts, **row)


def store_facts(database: Database, study: StoredStudy, facts: ObjectiveFacts) -> None:
    """Complete what a study of an older version has stored of its objective."""
    database.rows("store_facts", study_id=study.study_id, objective=Json(facts.as_json()))


def found_domains(database: Database, study: StoredStudy) -> Space:
    """The parameters that the study's trials have suggested so far, by name."""
    rows = database.rows("found_domains", study_id=study.study_id)
    return {row["name"]: read_domain(row["domain"]) for row in rows}
