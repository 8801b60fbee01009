"""Coordinate search: tune one parameter, keep its best value, go on to the next.

The advice of J. Brownlee's "How to Grid Search Hyperparameters for Deep Learning Models in Python
with Keras" (2016), and the classical coordinate search of numerical optimisation (J. Nocedal and
S. Wright, "Numerical Optimization", 2006, section 9.3) on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import UsageError, nearest
from orchestrator.search.plans.plan import (
    Configuration,
    ConfigurationPlan,
    configuration_of,
    is_open,
    key_of,
)
from orchestrator.search.space import IsActive, Space, check_value, count, values_of
from orchestrator.spec.domains import Scalar
from orchestrator.spec.eligibility import may_win, rank
from orchestrator.spec.model import first_fault


class CoordinateOptions(BaseModel):
    """``[sampler]`` of ``coordinate``.

    Attributes:
        rounds: how often each parameter is tuned.
        order: the parameters in the order in which they are tuned; default: the space's.
        values: the values to try for a parameter; default: all of a choice, ``points`` of a range.
        points: how many values of a range are tried, evenly spaced on its scale.
        start: the value of a parameter until it is tuned; default: the middle one of its values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(default=1, ge=1, le=100)
    order: tuple[str, ...] | None = None
    values: dict[str, list[Scalar]] = Field(default_factory=dict)
    points: int = Field(default=5, ge=2, le=1000)
    start: dict[str, Scalar] = Field(default_factory=dict)


class CoordinatePlan(ConfigurationPlan):
    """One parameter's values at a time, in parallel; the best goes into all that follow.

    Args:
        space: the domains.
        is_active: which parameters exist beside the others.
        options: the spec's ``[sampler]``.
        maximize: the direction.
        constraints: user attributes that are constraints, beside those that trials hold.

    Raises:
        UsageError: an option is unknown or impossible.
    """

    def __init__(
        self,
        space: Space,
        is_active: IsActive,
        options: Mapping[str, Any],
        maximize: bool,
        constraints: Sequence[str] = (),
    ) -> None:
        try:
            self._options = CoordinateOptions.model_validate(dict(options))
        except ValidationError as error:
            raise UsageError(first_fault(error, CoordinateOptions, "sampler.")) from None
        self._space = space
        self._is_active = is_active
        self._maximize = maximize
        self._constraints = constraints
        self._check_options()
        self._values = {name: self._values_to_try(name, each) for name, each in space.items()}
        searched = [name for name, each in space.items() if not each.single()]
        self._order = searched if self._options.order is None else list(self._options.order)
        middle = {name: values[len(values) // 2] for name, values in self._values.items()}
        self._start = {**middle, **self._options.start}

    def size(self) -> int:
        # The best value so far is among the next parameter's configurations, and known.
        total = 0
        for name in self._order * self._options.rounds:
            known = total > 0 and self._start[name] in self._values[name]
            total += len(self._values[name]) - known
        return max(1, total)

    def next(self, trials: Sequence[FrozenTrial]) -> list[Configuration]:
        if is_open(trials):
            return []  # an earlier parameter's trials may still decide what its best value is
        tried = {key_of(configuration_of(trial)) for trial in trials}
        values = {
            key_of(configuration_of(trial)): trial.value
            for trial in trials
            if trial.value is not None and may_win(trial, self._constraints)
        }
        best = dict(self._start)
        for name in self._order * self._options.rounds:
            candidates = [{**best, name: value} for value in self._values[name]]
            missing = [each for each in candidates if key_of(self._active(each)) not in tried]
            if missing:
                return self._unique(missing)
            best = self._best_of(candidates, values) or best
        return []

    def _best_of(
        self, candidates: list[Configuration], values: Mapping[Any, float]
    ) -> Configuration | None:
        known = [
            (rank(values[key], self._maximize), index)
            for index, each in enumerate(candidates)
            if (key := key_of(self._active(each))) in values
        ]
        return candidates[min(known)[1]] if known else None

    def _active(self, full: Configuration) -> Configuration:
        chosen: Configuration = {}
        for name, value in full.items():
            if self._is_active(name, chosen):
                chosen[name] = value
        return chosen

    def _unique(self, candidates: list[Configuration]) -> list[Configuration]:
        # Values of an inactive parameter all make the same configuration.
        return list({key_of(one): one for one in map(self._active, candidates)}.values())

    def _check_options(self) -> None:
        options, space = self._options, self._space
        for option in ("values", "order", "start"):
            for name in getattr(options, option) or ():
                if name not in space:
                    raise UsageError(
                        f"sampler.{option} names an unknown parameter {name}; "
                        f"{nearest(name, space)}"
                    )
        for name, values in options.values.items():
            if not values:
                raise UsageError(f"sampler.values.{name} is empty; name at least one value")
            for value in values:
                check_value(f"sampler.values.{name}", value, space[name])
        for name, value in options.start.items():
            check_value(f"sampler.start.{name}", value, space[name])

    def _values_to_try(self, name: str, each: BaseDistribution) -> list[Scalar]:
        if name in self._options.values:
            return self._options.values[name]
        total = count(each)
        points = self._options.points
        if isinstance(each, IntDistribution | FloatDistribution) and (
            total is None or total > points
        ):
            return _evenly(each, points)
        return values_of(name, each)


def _evenly(each: IntDistribution | FloatDistribution, points: int) -> list[Scalar]:
    """Values evenly spaced on the domain's scale, ends included, on its own steps."""
    with np.errstate(all="ignore"):  # an objective's module may let NumPy raise
        if each.log:
            spaced = np.exp(np.linspace(math.log(each.low), math.log(each.high), points))
        else:  # by halves: the whole range may be more than a float holds
            spaced = 2 * np.linspace(each.low / 2, each.high / 2, points)
    step = each.step or 0
    found: list[Scalar] = []
    for raw in spaced.tolist():
        value = each.low + round((raw - each.low) / step) * step if step else raw
        value = min(max(value, each.low), each.high)
        found.append(int(value) if isinstance(each, IntDistribution) else float(f"{value:.12g}"))
    return list(dict.fromkeys(found))
