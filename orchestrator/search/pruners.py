"""The pruners by name; and successive halving with sorted rungs, whose decisions are Optuna's.

Optuna's pruners go through all trials at each rung. These take in only the trials that changed, and
look a value up among those of its rung: the cost of a decision does not grow with the study. They
need a storage that tells what changed (``changed_since``), and are Optuna's own with any other.

Source: Li et al., Hyperband (JMLR 18, 2018); Li et al., ASHA (MLSys 2020).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from typing import Protocol, cast

from optuna import Study, pruners
from optuna.pruners import BasePruner, NopPruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from orchestrator.base.optuna_internals import (
    RUNG,
    HalvingRule,
    bracket_of,
    bracket_pruners,
    rule_of,
    rung_key,
    rung_of,
    storage_of,
)
from orchestrator.errors import UsageError
from orchestrator.search.plans.rounds import build_rounds
from orchestrator.search.strategy import Strategy, choose
from orchestrator.spec.model import StudySpec

_MODULE = "optuna.pruners"

PRUNERS = {
    "hyperband": Strategy("HyperbandPruner", __name__),
    "asha": Strategy("SuccessiveHalvingPruner", __name__),
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
    if build_rounds(spec, steps) is not None:
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


class ChangeReader(Protocol):
    """A storage that tells which trials changed since it was last asked, with their rungs."""

    def changed_since(self, seen: tuple[int, int]) -> tuple[list[FrozenTrial], tuple[int, int]]: ...


class RungIndex:
    """The values that the trials of one bracket, or of all, noted at each rung; sorted."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, str], list[float]] = defaultdict(list)
        self._noted: dict[int, tuple[int, dict[str, float]]] = {}
        self._seen = 0, 0

    def changed(self, storage: ChangeReader) -> list[FrozenTrial]:
        """The trials that changed since the last call."""
        changed, seen = storage.changed_since(self._seen)
        if seen[0] != self._seen[0]:  # all was read anew: what was noted may never have been stored
            self._values.clear()
            self._noted.clear()
        self._seen = seen
        return changed

    def put(self, bracket: int, trial: FrozenTrial) -> None:
        """Take in a trial as it is now."""
        noted = {key: value for key, value in trial.system_attrs.items() if key.startswith(RUNG)}
        before = self._noted.pop(trial.number, None)
        if before is not None:
            for key, value in before[1].items():
                values = self._values[bracket, key]
                del values[bisect_left(values, value)]
        for key, value in noted.items():
            insort(self._values[bracket, key], value)
        if noted:
            self._noted[trial.number] = bracket, noted

    def others(self, bracket: int, key: str, number: int) -> list[float]:
        """The values at a rung, without that of one trial."""
        values = self._values[bracket, key]
        own = self._noted.get(number, (bracket, {}))[1].get(key)
        if own is None:
            return values
        place = bisect_left(values, own)
        return values[:place] + values[place + 1 :]


class SuccessiveHalvingPruner(pruners.SuccessiveHalvingPruner):
    """Optuna's; see there for its options."""

    _index: RungIndex | None = None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        rule, storage = rule_of(self), _change_reader(study)
        if rule.min_resource is None or storage is None:
            return super().prune(study, trial)
        self._index = self._index or RungIndex()
        for each in self._index.changed(storage):
            self._index.put(0, each)
        return decide(rule, study, trial, self._index, 0)

    def noted(self, study: Study, trial: FrozenTrial) -> dict[str, float]:
        """See :func:`noted_rung`."""
        return _noted(rule_of(self), trial)


class HyperbandPruner(pruners.HyperbandPruner):
    """Optuna's; see there for its options."""

    _index: RungIndex | None = None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        storage, of_brackets = (
            _change_reader(study),
            bracket_pruners(self, study, reads_trials=False),
        )
        if storage is None or not of_brackets:
            return super().prune(study, trial)
        self._index = self._index or RungIndex()
        for each in self._index.changed(storage):
            self._index.put(bracket_of(self, study, each), each)
        bracket = bracket_of(self, study, trial)
        return decide(rule_of(of_brackets[bracket]), study, trial, self._index, bracket)

    def noted(self, study: Study, trial: FrozenTrial) -> dict[str, float]:
        """See :func:`noted_rung`."""
        of_brackets = bracket_pruners(self, study, reads_trials=False)
        if not of_brackets:
            return {}
        return _noted(rule_of(of_brackets[bracket_of(self, study, trial)]), trial)


def _change_reader(study: Study) -> ChangeReader | None:
    # isinstance with a protocol would cost as much as the decision.
    storage = storage_of(study)
    return cast(ChangeReader, storage) if hasattr(storage, "changed_since") else None


_SORTED = (SuccessiveHalvingPruner, HyperbandPruner)


def noted_rung(pruner: BasePruner, study: Study, trial: FrozenTrial) -> dict[str, float]:
    """What the pruner is going to note in the trial at its last value, whatever others have."""
    if isinstance(pruner, _SORTED):
        return pruner.noted(study, trial)
    return {}


def reads_others(pruner: BasePruner, study: Study, trial: FrozenTrial) -> bool:
    """Whether the pruner, asked at the trial's last value, looks at other trials."""
    if isinstance(pruner, _SORTED):
        return bool(pruner.noted(study, trial))
    return not isinstance(pruner, NopPruner)


def decide(
    rule: HalvingRule,
    study: Study,
    trial: FrozenTrial,
    index: RungIndex,
    bracket: int,
) -> bool:
    """Optuna's decision: at each rung that the trial has reached, is it among the best?"""
    step = trial.last_step
    if step is None:
        return False
    value, rung = trial.intermediate_values[step], rung_of(trial)
    while step >= rule.resource(rung):
        if math.isnan(value):
            return True
        key = rung_key(rung)
        storage_of(study).set_trial_system_attr(trial._trial_id, key, value)
        others = index.others(bracket, key, trial.number)
        count = len(others) + 1
        if count <= rule.bootstrap_count:
            return True
        if study.direction == StudyDirection.MAXIMIZE:
            better = len(others) - bisect_right(others, value)
        else:
            better = bisect_left(others, value)
        # Of the first few, only the best goes on.
        if better > max(0, count // rule.reduction_factor - 1):
            return True
        rung += 1
    return False


def _noted(rule: HalvingRule, trial: FrozenTrial) -> dict[str, float]:
    step = trial.last_step
    if step is None or rule.min_resource is None:
        return {}
    value, rung = trial.intermediate_values[step], rung_of(trial)
    if step < rule.resource(rung) or math.isnan(value):
        return {}
    return {rung_key(rung): value}
