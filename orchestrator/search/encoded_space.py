"""EncodedSpace: Optuna's distributions as columns of numbers that a model can take.

A configuration is a row. An ordered parameter has a code from 0 to 1, a category the place of its
choice, and a parameter that a configuration does not have is NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.search.space import count

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

_LONGEST_GRID = 64  # an ordered parameter with more values is handled by its range
_ROUNDING = 1e-9  # by which the code of a bound may be off
_SHORT_GRID = 12  # of which each value is a neighbour of each other
# How far a step to a neighbour goes: one parameter at a time, and all numbers together.
_STEPS = np.repeat([0.2, 0.05, 0.01], 2)
_JOINT_STEPS = np.repeat([0.1, 0.03, 0.01, 0.003], 6)[:, None]
# Trials that agree with a condition, beyond one for each value of the deciding parameter.
_LEAST_EVIDENCE = 2


# One parameter's codes are a Categories, a Grid or a Range. Each has the same four methods:
# ``encode`` gives the code of a value, and raises a ValueError where the parameter cannot have it;
# ``decode`` is its reverse; ``spread`` makes codes of numbers that are uniform from 0 to 1;
# ``neighbours`` lists codes to try in place of one.


class Categories:
    """Choices without an order."""

    def __init__(self, distribution: CategoricalDistribution) -> None:
        self._distribution = distribution
        self.choices = distribution.choices

    def encode(self, value: Any) -> float:
        return float(self._distribution.to_internal_repr(value))

    def decode(self, code: float) -> Any:
        return self.choices[int(code)]

    def spread(self, unit: Array) -> Array:
        return np.minimum(np.floor(unit * len(self.choices)), len(self.choices) - 1)

    def neighbours(self, code: float, rng: np.random.Generator) -> Array:
        return np.arange(len(self.choices), dtype=float)


class Grid:
    """A few ordered values: a list of numbers, or an int or a float with a step.

    Args:
        values: in ascending order.
        codes: where they lie from 0 to 1.
    """

    def __init__(self, values: Sequence[Any], codes: Array) -> None:
        self.codes = codes
        self._values = values
        self._numbers = np.array(values, dtype=float)
        self.lowest, self.highest = float(self._numbers.min()), float(self._numbers.max())

    def encode(self, value: Any) -> float:
        # The nearest: a domain may have changed since, and a step's multiples are rounded.
        return float(self.codes[np.argmin(np.abs(self._numbers - float(value)))])

    def decode(self, code: float) -> Any:
        return self._values[int(np.argmin(np.abs(self.codes - code)))]

    def spread(self, unit: Array) -> Array:
        places = np.minimum((unit * len(self.codes)).astype(int), len(self.codes) - 1)
        return np.asarray(self.codes[places])

    def neighbours(self, code: float, rng: np.random.Generator) -> Array:
        if len(self.codes) <= _SHORT_GRID:
            return self.codes
        place = int(np.argmin(np.abs(self.codes - code)))
        near = np.arange(place - 2, place + 3)
        far = rng.integers(len(self.codes), size=6)
        return np.asarray(self.codes[np.unique(np.clip([*near, *far], 0, len(self.codes) - 1))])


class Range:
    """Numbers between two bounds on a linear or logarithmic scale; those of a step snap to it."""

    def __init__(self, distribution: IntDistribution | FloatDistribution) -> None:
        self._low, self._high = distribution.low, distribution.high
        self._step, self._is_log = distribution.step, distribution.log
        self._is_whole = isinstance(distribution, IntDistribution)
        self._start, self._end = self._scaled(self._low), self._scaled(self._high)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._is_log else float(value)

    def encode(self, value: Any) -> float:
        return (self._scaled(value) - self._start) / (self._end - self._start)

    def decode(self, code: float) -> Any:
        value = self._start + code * (self._end - self._start)
        value = math.exp(value) if self._is_log else value
        if self._step is not None:
            value = self._low + self._step * round((value - self._low) / self._step)
        value = min(max(value, self._low), self._high)
        return int(value) if self._is_whole else float(value)

    def snap(self, codes: Array) -> Array:
        """The codes of the values that these codes stand for."""
        codes = np.clip(codes, 0, 1)
        if self._step is None:
            return codes
        return np.array([self.encode(self.decode(code)) for code in codes])

    def spread(self, unit: Array) -> Array:
        return self.snap(unit)

    def neighbours(self, code: float, rng: np.random.Generator) -> Array:
        return self.snap(code + rng.standard_normal(len(_STEPS)) * _STEPS)


def parameter(distribution: BaseDistribution) -> Categories | Grid | Range:
    """The codes of one distribution: a list of numbers is ordered, other choices are not."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        is_ordered = len(choices) > 2 and all(map(_is_number, choices))
        if is_ordered and len(set(choices)) == len(choices):
            return Grid(sorted(choices, key=_as_float), np.linspace(0, 1, len(choices)))
        return Categories(distribution)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    range_, size = Range(distribution), count(distribution)
    if size is None or size > _LONGEST_GRID:
        return range_
    step = distribution.step or 1
    values = [min(distribution.low + place * step, distribution.high) for place in range(size)]
    return Grid(values, np.array([range_.encode(value) for value in values]))


def code_within(each: Categories | Grid | Range, value: Any) -> float:
    """The code of a value of the domain.

    Raises:
        ValueError: it is not of the domain; the message is for the middle of a sentence.
    """
    try:
        code = each.encode(value)
    except (ValueError, TypeError):
        raise ValueError(f"{value!r}, which is not of its domain") from None
    is_outside = isinstance(each, Grid) and not each.lowest <= float(value) <= each.highest
    if is_outside or (isinstance(each, Range) and not -_ROUNDING <= code <= 1 + _ROUNDING):
        raise ValueError(f"{value!r}, which is outside of its domain")
    return code


def _is_number(choice: Any) -> bool:
    is_real = isinstance(choice, int | float) and not isinstance(choice, bool)
    return is_real and math.isfinite(choice)


def _as_float(choice: Any) -> float:
    return float(choice)


class Condition(NamedTuple):
    """A parameter exists where another one exists and has none of these codes."""

    parent: int
    without: Array

    def holds(self, rows: Array) -> Mask:
        codes = rows[:, self.parent]
        return ~np.isnan(codes) & ~np.isin(codes, self.without)


class EncodedSpace:
    """The parameters of a search space, a column each.

    Args:
        space: the domain of each; none has a single value.
        fixed: the values of parameters that every configuration is to have.

    Attributes:
        names: of the columns.
        parameters: their codes.
        optional: the columns of parameters that some configuration does not have.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], fixed: Mapping[str, Any] | None = None
    ) -> None:
        self.names = list(space)
        self.parameters = [parameter(each) for each in space.values()]
        self.optional: list[int] = []
        self._conditions: list[tuple[int, Condition]] = []
        self._fixed = {
            self.names.index(name): self.parameters[self.names.index(name)].encode(value)
            for name, value in (fixed or {}).items()
        }
        self._numbers = [
            column for column, each in enumerate(self.parameters) if isinstance(each, Range)
        ]

    @property
    def is_finite(self) -> bool:
        """Whether every parameter has few values."""
        return not self._numbers

    def every(self, most: int) -> Array | None:
        """Every configuration, a row each; None if there are more than ``most``."""
        listed = [
            np.arange(len(each.choices), dtype=float)
            if isinstance(each, Categories)
            else each.codes
            for each in self.parameters
            if not isinstance(each, Range)
        ]
        if self._numbers or math.prod(map(len, listed)) > most:
            return None
        rows = self.settle(np.array(list(itertools.product(*listed)), dtype=float))
        # Those that differ in what others rule out alone, or in what is fixed, are the same.
        return np.array(list({row.tobytes(): row for row in rows}.values()))

    def encode(self, params: Mapping[str, Any]) -> Array:
        """A configuration's row.

        Raises:
            ValueError: one of its values is outside of this space.
        """
        return np.array(
            [
                each.encode(params[name]) if name in params else np.nan
                for name, each in zip(self.names, self.parameters, strict=True)
            ]
        )

    def decode(self, row: Array) -> dict[str, Any]:
        """The configuration of a row, without the parameters that it does not have."""
        return {
            name: each.decode(code)
            for name, each, code in zip(self.names, self.parameters, row, strict=True)
            if not math.isnan(code)
        }

    def learn_conditions(self, rows: Array) -> None:
        """Find out which parameters exist only beside certain values of another one.

        Optuna's spaces are defined by running the objective, which does not tell its conditions.
        Where the presence of a parameter follows from another one's value in all configurations so
        far, that is taken as the rule; a parameter without a rule is taken to exist.
        """
        present = ~np.isnan(rows)
        columns = np.flatnonzero(~present.all(axis=0) & present.any(axis=0))
        self.optional = [int(column) for column in columns]
        # Parents before children: a child is present in fewer configurations.
        order = sorted(self.optional, key=lambda column: -int(present[:, column].sum()))
        found = [(column, self._condition_of(column, rows, present)) for column in order]
        self._conditions = [(column, each) for column, each in found if each is not None]

    def _condition_of(self, child: int, rows: Array, present: Mask) -> Condition | None:
        best, most = None, _LEAST_EVIDENCE - 1
        for parent, each in enumerate(self.parameters):
            has_parent, has_child = present[:, parent], present[:, child]
            if parent == child or isinstance(each, Range) or (has_child & ~has_parent).any():
                continue
            with_child = np.unique(rows[has_child, parent])
            without = np.unique(rows[has_parent & ~has_child, parent])
            if not len(without) or np.isin(with_child, without).any():
                continue
            evidence = int(has_parent.sum()) - len(with_child) - len(without)
            if evidence > most:
                best, most = Condition(parent, without), evidence
        return best

    def settle(self, rows: Array) -> Array:
        """Set what is fixed, and remove the parameters that the others rule out."""
        for column, code in self._fixed.items():
            rows[:, column] = code
        for column, condition in self._conditions:
            rows[~condition.holds(rows), column] = np.nan
        return rows

    def is_whole(self, row: Array) -> bool:
        """Whether a row has every parameter that its others do not rule out."""
        settled = self.settle(np.where(np.isnan(row), 0.0, row)[None])[0]
        return bool((np.isnan(row) == np.isnan(settled)).all())

    def spread(self, unit: Array) -> Array:
        """Configurations for points of the unit cube, a row each."""
        columns = [each.spread(unit[:, column]) for column, each in enumerate(self.parameters)]
        return self.settle(np.stack(columns, axis=1))

    def random(self, size: int, rng: np.random.Generator) -> Array:
        """Configurations of which every one is as likely."""
        return self.spread(rng.random((size, len(self.names))))

    def neighbours(self, row: Array, rng: np.random.Generator) -> Array:
        """Configurations that differ in one parameter, or a little in all numbers."""
        middle = np.where(np.isnan(row), 0.5, row)
        blocks = []
        for column, each in enumerate(self.parameters):
            codes = each.neighbours(middle[column], rng)
            block = np.repeat(row[None], len(codes), axis=0)
            block[:, column] = codes
            blocks.append(block)
        if len(self._numbers) > 1:
            steps = rng.standard_normal((len(_JOINT_STEPS), len(self._numbers))) * _JOINT_STEPS
            block = np.repeat(row[None], len(steps), axis=0)
            for step, column in zip(steps.T, self._numbers, strict=True):
                range_ = self.parameters[column]
                assert isinstance(range_, Range)
                block[:, column] = range_.snap(middle[column] + step)
            blocks.append(block)
        # A parameter that a changed one brings in has no code yet.
        rows = np.concatenate(blocks)
        for column in map(int, np.flatnonzero(np.isnan(rows).any(axis=0))):
            unset = np.isnan(rows[:, column])
            rows[unset, column] = self.parameters[column].spread(rng.random(int(unset.sum())))
        return self.settle(rows)
