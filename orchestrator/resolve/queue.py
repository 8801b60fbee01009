"""The queue of a study: configurations that its workers take before they draw fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from psycopg2.extras import Json

from orchestrator.errors import UsageError, nearest
from orchestrator.resolve.objective import make_objective, search_space
from orchestrator.search.conditional import fixed_values
from orchestrator.search.space import check_type, check_value
from orchestrator.spec.domains import Conditions, words
from orchestrator.storage.database import Database
from orchestrator.storage.storable import to_json
from orchestrator.storage.studies import StoredStudy, found_domains

# What a function's choices may be as JSON: lists and dicts too.
Value = Any
Configurations = Sequence[Mapping[str, Value]]


def enqueue(
    database: Database,
    study: StoredStudy,
    configurations: Configurations,
    from_elsewhere: Configurations = (),
) -> None:
    """Queue configurations, all of them or none; workers take them before anything else.

    A parameter that a configuration leaves out is drawn by the sampler.

    Args:
        database: where the study is.
        study: the study.
        configurations: of this study; each must fit its space.
        from_elsewhere: of another study; what this one does not have, or a value that it does not
            allow, is left out.

    Raises:
        UsageError: an unknown parameter, or a value that its domain does not have.
    """
    objective = make_objective(study.spec)
    space = search_space(study.spec, objective)
    suggested = {} if objective.space() else found_domains(database, study)

    def check(name: str, value: Value) -> None:
        if name in space:
            check_value(name, value, space[name])
        elif objective.space():
            raise UsageError(f"unknown parameter {name}; {nearest(name, space)}")
        elif name in suggested:  # a function's ranges may differ from trial to trial
            check_type(name, value, suggested[name])

    conditions, fixed = objective.settings.conditions, fixed_values(space)
    for configuration in configurations:
        for name, value in configuration.items():
            check(name, value)
            _check_condition(name, conditions, {**fixed, **configuration})
    fitting = [
        {name: value for name, value in each.items() if not conditions.obstacle(name, fixed | each)}
        for each in _fitting(check, from_elsewhere)
    ]
    queue(database, study, [*configurations, *fitting])


def _check_condition(name: str, conditions: Conditions, given: Mapping[str, Value]) -> None:
    parent = conditions.obstacle(name, given)
    if parent is not None:
        values = conditions.required(name)[parent]
        raise UsageError(
            f"{name} does not exist where {parent} is {words([given[parent]])}; it needs "
            f"{parent} = {words(values)}"
        )


def _fitting(
    check: Callable[[str, Value], None], configurations: Configurations
) -> list[dict[str, Value]]:
    """The configurations, as far as they fit the space."""

    def fits(name: str, value: Value) -> bool:
        try:
            check(name, value)
        except UsageError:
            return False
        return True

    return [
        {name: value for name, value in each.items() if fits(name, value)}
        for each in configurations
    ]


def queue(
    database: Database,
    study: StoredStudy,
    configurations: Configurations,
    attributes: Sequence[Mapping[str, Any]] = (),
    stage: int | None = None,
) -> None:
    """Queue configurations as they are.

    Args:
        database: where the study is.
        study: the study.
        configurations: the parameters of each trial; what is left out is drawn.
        attributes: user attributes of each trial; empty: they have none.
        stage: only if this is the study's stage, which then is the next; None: in any case.
    """
    database.call(
        "enqueue_trials",
        study=study.study_id,
        stage=stage,
        configurations=Json([to_json(dict(each)) for each in configurations]),
        attributes=Json([dict(each) for each in attributes or [{}] * len(configurations)]),
    )
