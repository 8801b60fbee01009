"""SVG: a drawing of dots, lines and words with axes, small in bytes and quick to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from orchestrator.base.printed import clip
from orchestrator.report.figures.scales import Scale
from orchestrator.report.section import section

Point = tuple[float, float]


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
