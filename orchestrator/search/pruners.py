"""The pruners by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.search.plans.promotion import build_brackets
from orchestrator.search.strategy import Strategy, choose
from orchestrator.spec.model import StudySpec

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

_MODULE = "optuna.pruners"
_SORTED = "orchestrator.search.halving"

PRUNERS = {
    "hyperband": Strategy("HyperbandPruner", _SORTED),
    "asha": Strategy("SuccessiveHalvingPruner", _SORTED),
    "median": Strategy("MedianPruner", _MODULE),
    "percentile": Strategy("PercentilePruner", _MODULE, {"percentile": 25.0}),
    "patient": Strategy("PatientPruner", _MODULE, {"patience": 1}, frozenset({"wrapped_pruner"})),
    "threshold": Strategy("ThresholdPruner", _MODULE),
    "wilcoxon": Strategy("WilcoxonPruner", _MODULE),
    "auto": Strategy("BestProbabilityPruner", "orchestrator.search.best_probability"),
    "none": Strategy("NopPruner", _MODULE),
}


def build_pruner(spec: StudySpec, steps: int) -> BasePruner:
    """The spec's pruner.

    Args:
        spec: the study.
        steps: how many values a full trial reports: Hyperband's ``max_resource`` where the spec
            has none. Never Optuna's "auto", with which nothing is pruned until a first trial
            completes.

    Raises:
        UsageError: unknown name or option, or an impossible value.
    """
    name, options = spec.pruner.name, spec.pruner.options
    strategy = choose(PRUNERS, "pruner", name)
    if build_brackets(spec, steps) is not None:
        # Who goes on is decided when the round has ended, by the plan.
        return PRUNERS["none"].build("pruner", {})  # type: ignore[no-any-return]
    filled: dict[str, object] = {}
    if name == "hyperband":
        filled["max_resource"] = steps
        _check_resources(options.get("min_resource", 1), options.get("max_resource", steps))
    elif name == "asha":
        filled["min_resource"] = 1
    elif name == "patient":
        filled["wrapped_pruner"] = None
    pruner: BasePruner = strategy.build("pruner", options, **filled)
    return pruner


def _check_resources(low: object, high: object) -> None:
    for key, value in (("min_resource", low), ("max_resource", high)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"pruner.{key} must be a whole number of epochs from 1, not {value!r}")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        raise UsageError(
            f"pruner.min_resource {low} is above max_resource {high}; lower the one or train "
            "more epochs"
        )
