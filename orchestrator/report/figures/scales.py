"""Scales and axes of figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.base.printed import clip
from orchestrator.report.numbers import MOST, finite, median, scaled, share, whole
from orchestrator.spec.choices import distinct

_FAR = 6.0  # times the distance of the median from the best


def value_range(values: Sequence[float], maximize: bool) -> tuple[float, float]:
    """Low and high ends that show the best in full; the far tail of bad values is outside.

    Both are finite, and differ.
    """
    if not values:
        return 0.0, 1.0
    parts, exponent = scaled(values)
    low, high = _range(parts.tolist(), maximize)
    low, high = finite(whole(low, exponent)), finite(whole(high, exponent))
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _range(values: Sequence[float], maximize: bool) -> tuple[float, float]:
    top, bound = (max(values), min(values)) if maximize else (min(values), max(values))
    usual = abs(top - median(values))
    if abs(top - bound) > _FAR * usual > 0:
        bound = top - math.copysign(_FAR * usual, top - bound)
    margin = 0.04 * abs(top - bound) or abs(top) * 0.05
    return min(top, bound) - margin, max(top, bound) + margin


_LONGEST = 1e12  # a tick is not written out beyond

_MOST_CHOICES = 12
Tick = tuple[float, str]  # a place in user units, and what is written there


class Scale(Protocol):
    """Places values on an axis."""

    def place(self, value: Any) -> float | None:
        """Where the value lies, in user units; None where it has no place."""

    def ticks(self) -> list[Tick]:
        """The ticks in the axis's order."""


@dataclass(frozen=True)
class Linear:
    """Equal differences are equal lengths. Values outside are put on the frame.

    Attributes:
        low: the value at ``start``.
        high: the value at ``end``.
        start: user units.
        end: user units; smaller than ``start`` on an upright axis.
        wanted: about how many ticks.
        whole: ticks at whole numbers only.
    """

    low: float
    high: float
    start: float
    end: float
    wanted: int = 5
    whole: bool = False

    def place(self, value: Any) -> float | None:
        if not isinstance(value, int | float) or math.isnan(value):
            return None
        return self.start + share(value, self.low, self.high) * (self.end - self.start)

    def ticks(self) -> list[Tick]:
        wanted = max(1, self.wanted)
        step = _nice_step(self.high / wanted - self.low / wanted)
        step = max(1.0, step) if self.whole else step
        found = []
        for index in range(
            math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1
        ):
            place = self.place(index * step)
            if place is not None:
                found.append((place, short(index * step, step)))
        return found


@dataclass(frozen=True)
class Log:
    """Equal ratios are equal lengths; as :class:`Linear` otherwise, and values are above 0."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: Any) -> float | None:
        if not isinstance(value, int | float) or not value > 0:
            return None
        at = share(math.log(value), math.log(self.low), math.log(self.high))
        return self.start + at * (self.end - self.start)

    def ticks(self) -> list[Tick]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        heads = (1,) if len(decades) > 3 else (1, 2, 5)
        every = max(1, len(decades) // 6)
        values = [float(f"{head}e{decade}") for decade in decades[::every] for head in heads]
        found = []
        for value in values:
            place = self.place(value)
            if self.low * 0.999 <= value <= self.high * 1.001 and place is not None:
                found.append((place, short(value)))
        return found


@dataclass(frozen=True)
class Category:
    """Each value in a band of its own, in order."""

    values: Sequence[Any]
    start: float
    end: float

    def place(self, value: Any) -> float | None:
        wanted = distinct(value)
        for index, each in enumerate(self.values):
            if distinct(each) == wanted:
                return self.start + (index + 0.5) / len(self.values) * (self.end - self.start)
        return None

    def ticks(self) -> list[Tick]:
        every = -(-len(self.values) // 12)
        return [(self.place(each) or 0.0, clip(str(each), 14)) for each in self.values[::every]]


def scale_of(values: Sequence[Any], start: float, end: float, log: bool = False) -> Scale:
    """The scale that shows all the values of a parameter; infinite ones lie on the frame."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    # A whole number may be one that no float holds.
    floats = [v for v in numbers if -MOST <= v <= MOST]
    each = {distinct(value): value for value in values}
    # A NaN or an infinity has a place only among the choices of a category.
    are_choices = len(floats) < len(numbers) and len(each) <= _MOST_CHOICES
    if len(numbers) < len(values) or not floats or are_choices:
        return Category(sorted(each.values(), key=str), start, end)
    low, high = float(min(floats)), float(max(floats))
    if log and low > 0 and high > low:
        return Log(low, high, start, end)
    if low == high:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    whole = all(isinstance(value, int) for value in floats)
    return Linear(finite(low), finite(high), start, end, whole=whole)


def short(value: float, step: float | None = None) -> str:
    """A tick's text: as few digits as tell it from its neighbours."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or size < 1e-3:
        head, tail = f"{value:.2e}".split("e")
        told = f"{float(head):g}e{int(tail)}"
        # Far from 0 the neighbours may differ in a later digit only.
        if step is None or size >= _LONGEST or math.isclose(float(told), value, rel_tol=1e-9):
            return told
    if step is None:
        return f"{value:.4g}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit for an axis that is so long: its seconds and its name."""
    if seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _nice_step(rough: float) -> float:
    if rough <= 0:
        return 1.0
    base = 10.0 ** math.floor(math.log10(rough)) or rough  # the least floats have no decade
    return next((base * head for head in (1, 2, 5) if base * head >= rough * 0.7), base * 10)
