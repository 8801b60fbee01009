"""The objective of a study: made from its spec, what the study takes from it, and may it run here.

A stored command runs only where its user has given the same command. Whoever may write to a shared
database may write a command into it. So a machine runs one only if this user has given it here
before, or has allowed it with ``--allow-command``. ``$ORCH_HOME`` remembers that by a SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from pydantic import ValidationError

from orchestrator.base.files import home
from orchestrator.base.printed import escaped
from orchestrator.errors import StudyFailed, UsageError
from orchestrator.search.conditional import can_exist, check_conditions
from orchestrator.search.space import Space, distribution, merge, reachable, values_of
from orchestrator.spec.command import is_command
from orchestrator.spec.domains import Conditions
from orchestrator.spec.facts import ObjectiveFacts, assumed_steps
from orchestrator.spec.model import StudySpec, first_fault
from orchestrator.storage.studies import IMPORTED
from orchestrator.training import handover
from orchestrator.training.base import NoOptions, Objective, Settings
from orchestrator.training.registry import find

_given: set[str] = set()  # in this process, should $ORCH_HOME be closed to us


def check_can_run(spec: StudySpec) -> None:
    """Refuse a study that was imported without an objective, or whose objective is not here.

    Raises:
        UsageError: it was, or it must be handed over and has not been.
    """
    if spec.study.objective == IMPORTED:
        raise UsageError(
            f"study '{spec.study.name}' was imported without an objective, so it cannot run; "
            "import it again with --objective"
        )
    reference = spec.study.objective
    if handover.is_by_value(reference) and handover.find(reference) is None:
        raise handover.by_value_only(reference)


def make_objective(spec: StudySpec) -> Objective:
    """The spec's objective with its settings.

    Raises:
        UsageError: no such objective, or an option that it does not have.
    """
    check_can_run(spec)
    factory = find(spec.study.objective)
    settings = Settings(
        metrics=spec.study.metrics,
        epochs=spec.training.epochs,
        repeats=spec.training.repeats,
        folds=spec.training.folds,
        data=spec.data.name,
        fingerprint=spec.data.fingerprint,
        validation=spec.data.validation,
        options=spec.objective,
        space=frozenset(spec.space),
        value=spec.training.value,
        maximize=spec.study.directions[:1] == ("maximize",),
        conditions=Conditions(spec.space),
        reported=spec.study.place_of(spec.pruner.metric),
        domains={name: distribution(name, domain) for name, domain in spec.space.items()},
        checkpoint_mb=spec.worker.artifact_limit_mb,
    )
    try:
        return factory(settings)
    except ValidationError as error:
        options = getattr(factory, "Options", NoOptions)
        raise UsageError(first_fault(error, options, "objective.")) from None


def search_space(spec: StudySpec, objective: Objective) -> Space:
    """The parameters of every trial; for a function, the spec's domains for what it suggests.

    Raises:
        UsageError: a domain for a parameter that the objective does not have.
    """
    own = objective.space()
    if own:
        space = merge(own, objective.catalogue(), spec.space)
    else:
        space = {name: distribution(name, domain) for name, domain in spec.space.items()}
    return objective.settings.conditions.in_order(space)


def check_space(objective: Objective, space: Space) -> None:
    """Check the conditions of the spec's ``[space]``.

    Raises:
        UsageError: one is about a parameter or value that there is not, or can never hold.
    """
    check_conditions(
        objective.settings.conditions,
        space,
        objective.needs,
        objective.catalogue(),
        is_function=not objective.space(),
    )


def useful_threads(objective: Objective, space: Space, available: int | None) -> int | None:
    """CPU threads for a training: those that there are, or fewer where more would not help."""
    threads = [each for each in (available, objective.most_threads(space)) if each is not None]
    return min(threads, default=None)


def full_steps(spec: StudySpec, objective: Objective) -> int:
    """How many values a trial reports that is never pruned; with searched epochs, at most."""
    epochs = search_space(spec, objective).get("epochs")
    if objective.uses_epochs and spec.training.rounds == 1 and epochs is not None:
        return int(max(map(int, values_of("epochs", epochs))))
    return objective.steps() or assumed_steps(spec)


def facts_of(
    spec: StudySpec, objective: Objective, declared: Mapping[str, BaseDistribution] | None = None
) -> ObjectiveFacts:
    """What a study stores of its objective.

    Args:
        spec: the study.
        objective: its objective.
        declared: parameters that it would suggest, where they were worked out.
    """
    space = {**(declared or {}), **search_space(spec, objective)}
    conditions = objective.settings.conditions
    shown = {
        name: each
        for name, each in reachable(space, objective.is_active).items()
        if can_exist(name, conditions, space)
    }
    further = {name: each for name, each in objective.catalogue().items() if name not in space}
    return ObjectiveFacts(
        steps=full_steps(spec, objective),
        has_epochs=objective.uses_epochs,
        model_suffix=objective.model_suffix,
        space=shown,
        further=further,
        is_open=not objective.space() and not declared,
    )


def asked_facts(spec: StudySpec) -> ObjectiveFacts:
    """What a study of this spec would store of its objective.

    Raises:
        UsageError: there is no such objective, or it does not take the spec's options.
    """
    objective = make_objective(spec)
    check_space(objective, search_space(spec, objective))
    return facts_of(spec, objective, objective.declared())


def pin_data(objective: Objective) -> dict[str, Any] | None:
    """The facts of the objective's data here: name, shape, counts and SHA-256.

    Raises:
        DataError: the data cannot be had, or are damaged.
    """
    facts = objective.check()
    return None if facts is None else facts.as_json()


def remember_command(spec: StudySpec) -> None:
    """The user has just given this command, or allowed it."""
    if not is_command(spec.study.objective):
        return
    digest = _digest(spec)
    _given.add(digest)
    with contextlib.suppress(OSError):
        path = _path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)


def is_given(spec: StudySpec) -> bool:
    """Whether this user has given the study's command here before; True of other objectives."""
    if not is_command(spec.study.objective):
        return True
    digest = _digest(spec)
    return digest in _given or _path(digest).exists()


def check_consent(spec: StudySpec, allow: bool = False) -> None:
    """Refuse a command that came from a database alone.

    Args:
        spec: the stored study.
        allow: the user has looked at it.

    Raises:
        StudyFailed: the user has not given it here; the message has the command.
    """
    if allow or is_given(spec):
        return
    name = spec.study.name
    raise StudyFailed(
        f"study '{name}' runs a command that you have not given on this machine; if you trust it, "
        f"add --allow-command: {escaped(spec.study.objective.removeprefix('command:'))}"
    )


def _digest(spec: StudySpec) -> str:
    # With the space: its texts become arguments.
    document = spec.document()
    given = [document["study"]["objective"], document.get("space", {})]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _path(digest: str) -> Path:
    return home() / "commands" / digest
