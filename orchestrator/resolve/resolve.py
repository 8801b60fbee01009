"""Resolve: check everything that a spec names, fill in what follows; and take up a stored study."""

from __future__ import annotations

from dataclasses import dataclass, replace

from optuna.distributions import CategoricalDistribution

from orchestrator.errors import UsageError, nearest, nearest_of_all
from orchestrator.resolve.objective import (
    check_space,
    facts_of,
    full_steps,
    make_objective,
    pin_data,
    search_space,
)
from orchestrator.resolve.pins import (
    check_data,
    check_software,
    compare_data,
    record_mismatch,
    software_of,
)
from orchestrator.resolve.warm_start import store_new
from orchestrator.search.auto import MODEL
from orchestrator.search.plans import PLANS, build_plan, is_planned
from orchestrator.search.plans.plan import Plan
from orchestrator.search.plans.rounds import promotes
from orchestrator.search.pruners import build_pruner
from orchestrator.search.samplers import WEIGHING_COSTS, build_sampler
from orchestrator.search.space import Space, check_domains, count
from orchestrator.search.terminators import build_terminator
from orchestrator.spec.facts import ObjectiveFacts
from orchestrator.spec.model import PrunerSection, StudySpec
from orchestrator.storage.artifacts import check_artifacts
from orchestrator.storage.database import Database
from orchestrator.storage.studies import (
    NewStudy,
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
from orchestrator.training.base import Objective


def create(database: Database, spec: StudySpec) -> StoredStudy:
    """Check a spec, and store its study.

    Raises:
        UsageError: the spec is wrong, or a study of that name exists.
    """
    return store_new(database, resolve(spec))


def resolve(spec: StudySpec) -> NewStudy:
    """Check everything that a spec names and fill in what follows from the objective.

    Raises:
        UsageError: something in the spec is unknown or impossible.
        OrchError: the data cannot be had.
    """
    objective = make_objective(spec)
    spec = _with_pruner(_with_metrics(spec, objective))
    space = search_space(spec, objective)
    check_domains(spec.space, {**objective.catalogue(), **objective.space()})
    check_space(objective, space)
    _check_rounds(spec, objective)
    build_sampler(spec)
    build_terminator(spec)
    build_pruner(spec, full_steps(spec, objective))
    one_training = objective.uses_epochs and spec.training.rounds == 1
    check_combination(spec, space, one_training, objective.checkpoints)
    steps = full_steps(spec, objective)
    spec = _with_plan(spec, build_plan(spec, space, objective.exists, steps))
    check_artifacts(spec.worker.artifacts)
    pinned = pin_data(objective)
    data = spec.data
    if pinned is not None and data.name is None:
        data = data.model_copy(update={"name": pinned["name"]})
    spec = spec.model_copy(update={"data": data})
    return NewStudy(
        spec,
        is_planned(spec),
        software_of(spec.study.objective, pinned),
        data=pinned,
        facts=facts_of(spec, objective),
    )


def _with_metrics(spec: StudySpec, objective: Objective) -> StudySpec:
    """The spec with its metrics and directions named."""
    metrics = objective.metrics
    known = objective.known_metrics()
    for metric in metrics:
        if known is not None and metric not in known:
            raise UsageError(
                f"unknown metric '{metric}' of the objective {spec.study.objective}; "
                f"{nearest_of_all(metric, known)}"
            )
    directions = spec.study.directions or tuple(map(objective.direction, metrics))
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


# Samplers that look for one best value, and so cannot weigh several metrics.
_SINGLE_OBJECTIVE = ("cmaes", "coordinate", "mixed-gp")


def check_combination(
    spec: StudySpec, space: Space, several_epochs: bool, checkpoints: bool
) -> None:
    """Refuse what cannot work together.

    Args:
        spec: the study, its metrics filled in.
        space: the domains, as far as they are known before the first trial.
        several_epochs: a trial reports the epochs of one training.
        checkpoints: a stopped trial can go on.

    Raises:
        UsageError: the reason, and how to fix it.
    """
    if spec.pruner.metric is not None and spec.pruner.metric not in spec.study.metrics:
        raise UsageError(
            f"unknown pruner.metric '{spec.pruner.metric}'; "
            f"{nearest(spec.pruner.metric, spec.study.metrics)}"
        )
    if len(spec.study.metrics) > 1:
        _check_several_metrics(spec)
    _check_space(spec, space)
    if spec.study.warm_start and spec.sampler.name in PLANS:
        raise UsageError(
            f"study.warm_start tells a sampler where to look, and {spec.sampler.name} has a list "
            "of its own; leave one of them out, or use --sampler mixed-gp"
        )
    if spec.sampler.cost is not None and spec.sampler.name not in WEIGHING_COSTS:
        raise UsageError(
            f"sampler.cost divides the gain that {MODEL} expects by the seconds of a trial, and "
            f"{spec.sampler.name} expects none; leave it out, or use --sampler {MODEL}"
        )
    if promotes(spec) and not checkpoints:
        raise UsageError(
            f"pruner.promote lets a stopped trial go on, and the objective {spec.study.objective} "
            "keeps no checkpoints; leave promote out"
        )
    if promotes(spec) and spec.training.rounds > 1:
        raise UsageError(
            "pruner.promote promotes after epochs, and with folds or repeats a trial reports whole "
            "trainings; leave one of them out"
        )
    if spec.pruner.name == "wilcoxon" and several_epochs:
        raise UsageError(
            "wilcoxon compares two trials fold by fold or repeat by repeat, and epochs of one "
            "training are neither; give --folds or --repeats, or use --pruner hyperband"
        )


def _check_several_metrics(spec: StudySpec) -> None:
    metrics = ", ".join(spec.study.metrics)
    if spec.pruner.name != "none" and spec.pruner.metric is None:
        raise UsageError(
            f"a study of several metrics ({metrics}) cannot be pruned: no epoch is better in all "
            "of them; use --pruner none, or name the one to prune by, e.g. --set "
            f"pruner.metric={spec.study.metrics[0]}"
        )
    if spec.pruner.name == "wilcoxon" or promotes(spec):
        what = "wilcoxon compares" if spec.pruner.name == "wilcoxon" else "pruner.promote ranks"
        raise UsageError(
            f"{what} whole trials by one value, and there are several metrics ({metrics}); use "
            "another pruner, e.g. --pruner hyperband"
        )
    if spec.sampler.name in _SINGLE_OBJECTIVE:
        raise UsageError(
            f"{spec.sampler.name} looks for the best of one metric, and there are several "
            f"({metrics}); use --sampler nsga2 or tpe"
        )
    if spec.study.warm_start:
        raise UsageError(
            f"study.warm_start ranks older trials by one metric, and there are several "
            f"({metrics}); leave it out"
        )
    if spec.sampler.cost is not None:
        raise UsageError(
            f"sampler.cost divides the expected gain in one metric by the seconds of a trial, and "
            f"there are several ({metrics}); leave it out"
        )
    if spec.terminator.name != "none":
        raise UsageError(
            f"a terminator judges the gain in one metric, and there are several ({metrics}); "
            "leave [terminator] out"
        )


def _check_space(spec: StudySpec, space: Space) -> None:
    searched = {name: each for name, each in space.items() if not each.single()}
    sampler = spec.sampler.name
    if sampler == "cmaes" and searched:
        numbers = [each for each in searched.values() if not _is_choice(each)]
        if not numbers:
            raise UsageError(
                "cmaes searches numbers, and every parameter of this space is a choice; "
                "use --sampler tpe or grid"
            )
    if sampler == "bruteforce":
        for name, each in searched.items():
            if count(each) is None:
                raise UsageError(
                    f"bruteforce tries every value, and {name} is continuous; give it a step or a "
                    "choice, or use --sampler tpe"
                )


def _is_choice(each: object) -> bool:
    return isinstance(each, CategoricalDistribution)


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
