"""Studies in a database: create, open, resume, stop and delete one from its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import Json
from pydantic import ValidationError

from objectives.base import NoOptions, Objective, ObjectiveError, Settings, default_direction, find
from orchestrator.errors import NoSuchStudy, OrchError, UsageError, nearest
from orchestrator.search.pruners import build_pruner
from orchestrator.search.samplers import build_sampler
from orchestrator.search.space import Space, distribution, merge
from orchestrator.spec import StudySpec, describe
from orchestrator.storage.artifacts import check_artifacts
from orchestrator.storage.database import Database


@dataclass(frozen=True)
class StoredStudy:
    """A study as the database has it."""

    study_id: int
    name: str
    spec: StudySpec
    data: Mapping[str, Any] | None
    state: str
    reason: str | None
    created_at: str


def make_objective(spec: StudySpec, threads: int | None = None) -> Objective:
    """The spec's objective with its settings.

    Args:
        spec: the study.
        threads: CPU threads that this process may use; None: not limited.

    Raises:
        UsageError: no such objective, or an option that it does not have.
    """
    try:
        factory = find(spec.study.objective)
    except ObjectiveError as error:
        raise UsageError(str(error)) from None
    settings = Settings(
        metric=spec.study.metric,
        epochs=spec.training.epochs,
        data=spec.data.name,
        validation=spec.data.validation,
        options=spec.objective,
        threads=threads,
    )
    try:
        return factory(settings)
    except ValidationError as error:
        options = getattr(factory, "Options", NoOptions)
        raise UsageError(describe(error, options, "objective.")) from None
    except ObjectiveError as error:
        raise UsageError(str(error)) from None


def search_space(spec: StudySpec, objective: Objective) -> Space:
    """The parameters of every trial; for a function, the spec's domains for what it suggests.

    Raises:
        UsageError: a domain for a parameter that the objective does not have.
    """
    own = objective.space()
    if own:
        return merge(own, spec.space)
    return {name: distribution(name, domain) for name, domain in spec.space.items()}


def full_steps(spec: StudySpec, objective: Objective) -> int:
    """How many values a trial reports that is never pruned."""
    return objective.steps() or spec.training.epochs


def resolve(spec: StudySpec) -> tuple[StudySpec, dict[str, Any] | None]:
    """Check everything that a spec names and fill in what follows from the objective.

    Returns:
        The spec as it is stored, and the facts of its data, to be pinned.

    Raises:
        UsageError: something in the spec is unknown or impossible.
        OrchError: the data cannot be had.
    """
    objective = make_objective(spec)
    search_space(spec, objective)
    build_sampler(spec)
    build_pruner(spec, full_steps(spec, objective))
    check_artifacts(spec.worker.artifacts)
    facts = pin_data(objective)
    metric = spec.study.metric or objective.default_metric
    direction = spec.study.direction or default_direction(metric)
    section = spec.study.model_copy(update={"metric": metric, "direction": direction})
    data = spec.data
    if facts is not None and data.name is None:
        data = data.model_copy(update={"name": facts["name"]})
    return spec.model_copy(update={"study": section, "data": data}), facts


def pin_data(objective: Objective) -> dict[str, Any] | None:
    """The facts of the objective's data here: name, shape, counts and SHA-256.

    Raises:
        OrchError: the data cannot be had, or are damaged.
    """
    try:
        facts = objective.check()
    except ObjectiveError as error:
        raise OrchError(str(error)) from None
    return None if facts is None else facts.as_json()


def create(database: Database, spec: StudySpec) -> StoredStudy:
    """Store a new study.

    Raises:
        UsageError: the spec is wrong, or a study of that name exists.
    """
    resolved, facts = resolve(spec)
    return _insert(database, resolved, facts)


def create_or_resume(database: Database, spec: StudySpec) -> StoredStudy:
    """Store a new study, or take up the stored one of the same spec.

    A higher budget is taken over. Everything else must be equal.

    Raises:
        UsageError: the stored study differs; the message has the differences.
    """
    resolved, facts = resolve(spec)
    name = spec.study.name
    stored = _read(database, name)
    if stored is None:
        return _insert(database, resolved, facts)
    trials = max(stored.spec.study.trials, resolved.study.trials)
    differences = stored.spec.with_budget(trials).differences(resolved)
    if differences:
        raise UsageError(
            f"study '{name}' exists with another spec ({'; '.join(differences)}); "
            f"use another --study, or 'orch resume {name}' to go on with the stored one"
        )
    if trials > stored.spec.study.trials:
        raise_budget(database, stored, trials)
    reopen(database, stored)
    return open_study(database, name)


def open_study(database: Database, name: str) -> StoredStudy:
    """The stored study of that name.

    Raises:
        NoSuchStudy: there is none; the message has the nearest name.
    """
    stored = _read(database, name)
    if stored is None:
        names = [row["name"] for row in database.rows("list_studies")]
        raise NoSuchStudy(f"no study '{name}' in this storage; {nearest(name, names)}")
    return stored


def raise_budget(database: Database, study: StoredStudy, trials: int) -> None:
    """Give the study a higher budget.

    Raises:
        UsageError: it is not higher.
    """
    if trials <= study.spec.study.trials:
        raise UsageError(
            f"the budget of '{study.name}' is {study.spec.study.trials} already; "
            "--trials must be higher, or use --add N"
        )
    database.rows("raise_budget", study_id=study.study_id, budget=trials)


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


def _insert(database: Database, spec: StudySpec, facts: dict[str, Any] | None) -> StoredStudy:
    assert spec.study.direction is not None
    row = database.row(
        "insert_study",
        name=spec.study.name,
        direction=spec.study.direction.upper(),
        metric=spec.study.metric,
        spec=Json(spec.document()),
        budget=spec.study.trials,
        timeout=spec.study.timeout,
        data=None if facts is None else Json(facts),
    )
    if row is None:
        raise UsageError(
            f"study '{spec.study.name}' exists already; use another name, or "
            f"'orch resume {spec.study.name}' to go on with it"
        )
    return open_study(database, spec.study.name)


def _read(database: Database, name: str) -> StoredStudy | None:
    row = database.row("read_study", name=name)
    if row is None:
        if database.row("study_is_foreign", name=name):
            raise UsageError(
                f"'{name}' is a plain Optuna study that orch did not create; use another name"
            )
        return None
    spec = StudySpec.parse(row.pop("spec"))
    return StoredStudy(spec=spec, **row)
