"""The plans by name: samplers of the spec that need no draws."""

from __future__ import annotations

from orchestrator.errors import UsageError
from orchestrator.search.plans.asha import AshaPlan
from orchestrator.search.plans.coordinate import CoordinatePlan
from orchestrator.search.plans.plan import EnqueuedPlan, GridPlan, Plan
from orchestrator.search.plans.promotion import PromotionPlan
from orchestrator.search.plans.rounds import Brackets, Rungs, build_rounds, promotes
from orchestrator.search.space import IsActive, Space
from orchestrator.spec.model import StudySpec

PLANS = ("grid", "coordinate", "enqueued")


def is_planned(spec: StudySpec) -> bool:
    """Whether the study's trials are queued by a plan."""
    return spec.sampler.name in PLANS or promotes(spec)


def build_plan(spec: StudySpec, space: Space, is_active: IsActive, steps: int) -> Plan | None:
    """The spec's plan; None where a sampler draws.

    Args:
        spec: the study.
        space: the domains of every parameter.
        is_active: which parameters exist beside the others.
        steps: epochs of a full trial.

    Raises:
        UsageError: an option is unknown or impossible, or the space does not fit.
    """
    name, options = spec.sampler.name, spec.sampler.options
    maximize = spec.study.maximize
    rounds = build_rounds(spec, steps)
    if rounds is not None:
        if name in PLANS:
            raise UsageError(
                f"{name} queues its own trials, and so does pruner.promote; use one of them"
            )
        if isinstance(rounds, Brackets):
            return PromotionPlan(rounds, maximize, spec.study.constraints)
        assert isinstance(rounds, Rungs)
        return AshaPlan(rounds, maximize, spec.study.constraints)
    if name not in PLANS:
        return None
    if name != "coordinate" and options:
        raise UsageError(f"{name} has no options, but sampler.{min(options)} is set; remove it")
    if name == "enqueued":
        return EnqueuedPlan()
    if not space:
        raise UsageError(
            f"{name} must know the domains before the first trial; write those of the function's "
            "parameters in [space], or as --param 'x={choice=[1,2]}'"
        )
    if name == "grid":
        return GridPlan(space, is_active)
    return CoordinatePlan(space, is_active, options, maximize, spec.study.constraints)
