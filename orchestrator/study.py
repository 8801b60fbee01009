"""Studies in a database: create, open, resume, stop and delete one from its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import Json
from pydantic import ValidationError

from objectives.base import NoOptions, Objective, ObjectiveError, Settings, default_direction, find
from orchestrator.errors import NoSuchStudy, OrchError, UsageError, nearest
from orchestrator.search.combination import check_combination
from orchestrator.search.plan import Plan
from orchestrator.search.plans import PLANS, build_plan
from orchestrator.search.pruners import build_pruner
from orchestrator.search.samplers import build_sampler
from orchestrator.search.space import Space, distribution, merge, values_of
from orchestrator.search.terminators import build_terminator
from orchestrator.spec import PrunerSection, StudySpec, describe
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
        metrics=spec.study.metrics,
        epochs=spec.training.epochs,
        repeats=spec.training.repeats,
        folds=spec.training.folds,
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
        return merge(own, objective.catalogue(), spec.space)
    return {name: distribution(name, domain) for name, domain in spec.space.items()}


def full_steps(spec: StudySpec, objective: Objective) -> int:
    """How many values a trial reports that is never pruned; with searched epochs, at most."""
    epochs = search_space(spec, objective).get("epochs")
    if objective.uses_epochs and spec.training.rounds == 1 and epochs is not None:
        return int(max(map(int, values_of("epochs", epochs))))
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
    spec = _with_metrics(spec, objective)
    space = search_space(spec, objective)
    _check_rounds(spec, objective)
    build_sampler(spec)
    build_terminator(spec)
    build_pruner(spec, full_steps(spec, objective))
    check_combination(spec, space, objective.uses_epochs and spec.training.rounds == 1)
    spec = _with_plan(spec, build_plan(spec, space, objective.is_active))
    check_artifacts(spec.worker.artifacts)
    facts = pin_data(objective)
    data = spec.data
    if facts is not None and data.name is None:
        data = data.model_copy(update={"name": facts["name"]})
    return spec.model_copy(update={"data": data}), facts


def _with_metrics(spec: StudySpec, objective: Objective) -> StudySpec:
    """The spec with its metrics and directions named; several metrics are not pruned."""
    metrics = objective.metrics
    directions = spec.study.directions or tuple(map(default_direction, metrics))
    if not spec.study.metrics and len(directions) > len(metrics):
        # A function that returns several values may leave them without names.
        metrics = tuple(f"{metrics[0]}_{index}" for index in range(len(directions)))
    if len(metrics) != len(directions):
        raise UsageError(
            f"study.direction has {len(directions)} entries for {len(metrics)} metrics; "
            "write one for each"
        )
    one = len(metrics) == 1
    section = spec.study.model_copy(
        update={
            "metric": metrics[0] if one else metrics,
            "direction": directions[0] if one else directions,
        }
    )
    pruner = spec.pruner
    if not one and "pruner" not in spec.model_fields_set:
        pruner = PrunerSection(name="none")
    return spec.model_copy(update={"study": section, "pruner": pruner})


def _check_rounds(spec: StudySpec, objective: Objective) -> None:
    if spec.training.rounds > 1 and not objective.trains_in_rounds:
        raise UsageError(
            f"the objective {spec.study.objective} does not train in folds or repeats; "
            "leave training.folds and training.repeats out"
        )


def _with_plan(spec: StudySpec, plan: Plan | None) -> StudySpec:
    """The spec with a plan's own size as the budget, unless a smaller one is set."""
    size = None if plan is None else plan.size()
    if size is None:
        return spec
    wanted = spec.study.trials if "trials" in spec.study.model_fields_set else size
    return spec.with_budget(min(wanted, size))


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
    row = database.row(
        "insert_study",
        name=spec.study.name,
        directions=[direction.upper() for direction in spec.study.directions],
        metrics=list(spec.study.metrics),
        planned=spec.sampler.name in PLANS,
        note=Json(spec.study.note),
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
