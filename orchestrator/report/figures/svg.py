"""SVG: a drawing of dots, lines and words on scales with axes, small in bytes, quick to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any, Protocol

from orchestrator.base.printed import clip
from orchestrator.report.numbers import MOST, finite, median, scaled, share, whole
from orchestrator.report.section import section
from orchestrator.spec.choices import distinct

_FAR = 6.0  # times the distance of the median from the best
Point = tuple[float, float]


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


@dataclass(frozen=True)
class Figure:
    """A finished drawing.

    Attributes:
        key: its name in file names and links.
        title: a few words.
        caption: what is seen, with what was left out.
        width: user units.
        height: user units.
        body: the SVG's inside; empty where it cannot be drawn, and the caption says why.
        points: ``(x, y, trial number)``, where a trial is to be found in the drawing.
        size: ``"wide"`` needs the width of the page, ``"half"`` and ``"third"`` share it.
        shows: what is drawn, in a word: the label of the switch where there are views.
        views: the same figure of something else; the page shows one at a time.
    """

    key: str
    title: str
    caption: str
    body: str
    width: float
    height: float
    points: Sequence[tuple[float, float, int]] = ()
    size: str = "half"
    shows: str = ""
    views: Sequence[Figure] = ()

    def inline(self) -> str:
        """The drawing as an element of a page that has ``figures.css``."""
        return (
            f'<svg class="drawing" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(self.title)}: {escape(self.caption)}">{self.body}</svg>'
        )

    def file(self) -> str:
        """The drawing as a file of its own."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" width="{self.width:g}" '
            f'height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}" role="img">'
            f"<title>{escape(self.title)}</title><desc>{escape(self.caption)}</desc>"
            f'<style>{stylesheet()}</style><rect class="paper" width="100%" height="100%"/>'
            f"{self.body}</svg>\n"
        )


def attempt(key: str, title: str, draw: Callable[[], Figure | None]) -> Figure | None:
    """A figure that fails by itself; the line in its place is its caption."""
    return section(f"The figure '{title}'", draw, lambda line: not_drawn(key, title, line))


def not_drawn(key: str, title: str, line: str) -> Figure:
    """In place of a figure, why there is none."""
    return Figure(key, title, line, "", 0, 0)


def stylesheet() -> str:
    """The colours and strokes of all figures."""
    return (files("orchestrator.report.figures") / "figures.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Frame:
    """Where the axes' rectangle lies in a drawing."""

    width: float = 560.0
    height: float = 300.0
    left: float = 62.0
    right: float = 14.0
    top: float = 14.0
    bottom: float = 46.0

    @property
    def x0(self) -> float:
        return self.left

    @property
    def x1(self) -> float:
        return self.width - self.right

    @property
    def y0(self) -> float:
        return self.height - self.bottom

    @property
    def y1(self) -> float:
        return self.top


@dataclass
class Drawing:
    """Collects marks. Every mark has a class, which ``figures.css`` paints."""

    frame: Frame
    parts: list[str] = field(default_factory=list)

    def axes(self, x: Scale, y: Scale, x_title: str, y_title: str) -> None:
        """The grid, the ticks and what the axes mean."""
        frame = self.frame
        self.path("grid", "".join(f"M{frame.x0:g} {at:.1f}H{frame.x1:g}" for at, _ in y.ticks()))
        self.path("axis", f"M{frame.x0:g} {frame.y0:g}H{frame.x1:g}")
        for index, (at, word) in enumerate(x.ticks()):
            minor = " minor" if index % 2 else ""
            self.text(at, frame.y0 + 17, word, f"tick middle{minor}")
        for at, word in y.ticks():
            self.text(frame.x0 - 8, at + 4, word, "tick end")
        self.text((frame.x0 + frame.x1) / 2, frame.height - 7, x_title, "label middle")
        middle = (frame.y0 + frame.y1) / 2
        self.parts.append(
            f'<text class="label middle aside" transform="translate(13 {middle:.1f}) rotate(-90)">'
            f"{escape(clip(y_title, 36))}</text>"
        )

    def path(self, style: str, data: str) -> None:
        """Any path."""
        if data:
            self.parts.append(f'<path class="{style}" d="{data}"/>')

    def dots(self, style: str, points: Iterable[Point]) -> int:
        """Round dots, all in one element; of dots in the same place one is drawn.

        Returns:
            How many are drawn.
        """
        places = dict.fromkeys((round(x), round(y)) for x, y in points)
        # A line of no length with round ends is a dot, and ten thousand are one element.
        self.path(f"dots {style}", "".join(f"M{x} {y}h0" for x, y in places))
        return len(places)

    def crosses(self, style: str, points: Iterable[Point], size: float = 3.5) -> None:
        """Crosses, for what must not be told by colour alone."""
        marks = "".join(
            f"M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}m{-2 * size:g} 0"
            f"l{2 * size:g} {-2 * size:g}"
            for x, y in points
        )
        self.path(f"cross {style}", marks)

    def line(self, style: str, points: Sequence[Point]) -> None:
        """One line through the points."""
        self.path(f"line {style}", polyline(points))

    def steps(self, style: str, points: Sequence[Point], until: float) -> None:
        """A line that keeps its height until the next point."""
        if points:
            moves = "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
            x, y = points[0]
            self.path(f"line {style}", f"M{x:.1f} {y:.1f}{moves}H{until:.1f}")

    def band(self, style: str, upper: Sequence[Point], lower: Sequence[Point]) -> None:
        """The area between two lines."""
        if upper:
            self.path(style, polyline([*upper, *reversed(lower)]) + "Z")

    def star(self, x: float, y: float) -> None:
        """The mark of the best trial."""
        self.parts.append(f'<circle class="winner" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')

    def bar(self, style: str, x: float, y: float, width: float, height: float) -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
            f'height="{height:.1f}" rx="2"/>'
        )

    def text(self, x: float, y: float, words: str, style: str) -> None:
        """Words at a place."""
        self.parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>')

    @property
    def body(self) -> str:
        return "".join(self.parts)


def polyline(points: Sequence[Point]) -> str:
    """The path's data of a line through the points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""
