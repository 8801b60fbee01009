"""Resolve: check everything that a spec names, and fill in what follows from the objective."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from objectives.base import NoOptions, Objective, Settings
from objectives.errors import ObjectiveError
from objectives.registry import default_direction, find
from orchestrator.errors import OrchError, UsageError
from orchestrator.search.combination import check_combination
from orchestrator.search.plan import Plan
from orchestrator.search.plans import PLANS, build_plan
from orchestrator.search.pruners import build_pruner
from orchestrator.search.samplers import build_sampler
from orchestrator.search.space import Space, distribution, merge, values_of
from orchestrator.search.terminators import build_terminator
from orchestrator.sections import PrunerSection
from orchestrator.spec import StudySpec, describe
from orchestrator.storage.artifacts import check_artifacts

# What stands for the objective of a study that was taken over from elsewhere.
IMPORTED = "imported"


def make_objective(spec: StudySpec) -> Objective:
    """The spec's objective with its settings.

    Raises:
        UsageError: no such objective, or an option that it does not have.
    """
    if spec.study.objective == IMPORTED:
        raise UsageError(
            f"study '{spec.study.name}' was imported without an objective, so it cannot run; "
            "import it again with --objective"
        )
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


def useful_threads(objective: Objective, space: Space, available: int | None) -> int | None:
    """CPU threads for a training: those that there are, or fewer where more would not help."""
    threads = [each for each in (available, objective.most_threads(space)) if each is not None]
    return min(threads, default=None)


def full_steps(spec: StudySpec, objective: Objective) -> int:
    """How many values a trial reports that is never pruned; with searched epochs, at most."""
    epochs = search_space(spec, objective).get("epochs")
    if objective.uses_epochs and spec.training.rounds == 1 and epochs is not None:
        return int(max(map(int, values_of("epochs", epochs))))
    # Of a function, only the pruner may have been told how often it reports.
    told = spec.pruner.options.get("max_resource")
    return objective.steps() or (told if isinstance(told, int) else spec.training.epochs)


def resolve(spec: StudySpec) -> tuple[StudySpec, dict[str, Any] | None]:
    """Check everything that a spec names and fill in what follows from the objective.

    Returns:
        The spec as it is stored, and the facts of its data, to be pinned.

    Raises:
        UsageError: something in the spec is unknown or impossible.
        OrchError: the data cannot be had.
    """
    objective = make_objective(spec)
    spec = _with_pruner(_with_metrics(spec, objective))
    space = search_space(spec, objective)
    _check_rounds(spec, objective)
    build_sampler(spec)
    build_terminator(spec)
    build_pruner(spec, full_steps(spec, objective))
    one_training = objective.uses_epochs and spec.training.rounds == 1
    check_combination(spec, space, one_training, objective.checkpoints)
    steps = full_steps(spec, objective)
    spec = _with_plan(spec, build_plan(spec, space, objective.is_active, steps))
    check_artifacts(spec.worker.artifacts)
    facts = pin_data(objective)
    data = spec.data
    if facts is not None and data.name is None:
        data = data.model_copy(update={"name": facts["name"]})
    return spec.model_copy(update={"data": data}), facts


def _with_metrics(spec: StudySpec, objective: Objective) -> StudySpec:
    """The spec with its metrics and directions named."""
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
    return spec.model_copy(update={"study": section})


def _with_pruner(spec: StudySpec) -> StudySpec:
    """The spec with a pruner that fits, where none is named.

    Several metrics cannot be pruned, and who asks for a grid wants the value of each cell.
    """
    several = len(spec.study.metrics) > 1
    if "pruner" in spec.model_fields_set or not (several or spec.sampler.name in PLANS):
        return spec
    return spec.model_copy(update={"pruner": PrunerSection(name="none")})


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
