"""Combinations of sampler, pruner, metrics and space that make no sense, and why."""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution

from orchestrator.errors import UsageError
from orchestrator.search.plans.promotion import promotes
from orchestrator.search.space import Space, count
from orchestrator.spec.model import StudySpec

# Samplers that look for one best value, and so cannot weigh several metrics.
_SINGLE_OBJECTIVE = ("cmaes", "coordinate")


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
        UsageError: the reason and the mend.
    """
    if len(spec.study.metrics) > 1:
        _check_several_metrics(spec)
    _check_space(spec, space)
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
    if spec.pruner.name != "none":
        raise UsageError(
            f"a study of several metrics ({metrics}) cannot be pruned: no epoch is better in all "
            "of them; use --pruner none"
        )
    if spec.sampler.name in _SINGLE_OBJECTIVE:
        raise UsageError(
            f"{spec.sampler.name} looks for the best of one metric, and there are several "
            f"({metrics}); use --sampler nsga2 or tpe"
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
