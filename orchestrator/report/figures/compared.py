"""The figures of a comparison: the best so far of each group, and the best values by seed."""

from __future__ import annotations

from functools import partial

from orchestrator.base.printed import clip
from orchestrator.report.compare import Comparison, Curve
from orchestrator.report.figures.scales import Category, Linear, time_unit
from orchestrator.report.figures.search import value_scale
from orchestrator.report.figures.svg import Drawing, Figure, Frame, attempt, not_drawn

COLOURS = 8  # s0 to s7 of figures.css


def figures(comparison: Comparison) -> list[Figure]:
    """One for the best values, and one each over trials, epochs and time."""
    found = [attempt("best", "Best values", lambda: _best_values(comparison))]
    if "curves" in comparison.missing:
        title = "What the effort bought"
        return [*filter(None, found), not_drawn("over", title, comparison.missing["curves"])]
    for index, unit in enumerate(("trials", "epochs", "seconds")):
        draw = partial(_spent, comparison, index)
        found.append(attempt(f"over-{unit}", f"Best over {unit}", draw))
    return [figure for figure in found if figure is not None]


def _best_values(comparison: Comparison) -> Figure | None:
    groups = [group for group in comparison.groups if group.values]
    if not groups:
        return None
    frame = Frame(bottom=56)
    values = [value for group in groups for value in group.values]
    y = value_scale(values, comparison.direction == "maximize", frame.y0, frame.y1)
    x = Category([group.name for group in groups], frame.x0, frame.x1)
    drawing = Drawing(frame)
    drawing.axes(x, y, "group", comparison.metric)
    half = min(40.0, (frame.x1 - frame.x0) / len(groups) / 4)
    for index, group in enumerate(groups):
        at = x.place(group.name) or 0.0
        drawing.dots(
            f"s{index % COLOURS} large",
            [
                (at + half * (2 * (each + 0.5) / len(group.values) - 1), y.place(value) or 0.0)
                for each, value in enumerate(group.values)
            ],
        )
        mean = y.place(group.mean) or 0.0
        drawing.line(f"series s{index % COLOURS}", [(at - half, mean), (at + half, mean)])
    caption = f"A dot is the best {comparison.metric} of one study (seed), the line is their mean."
    return Figure("best", "Best values", caption, drawing.body, frame.width, frame.height)


def _spent(comparison: Comparison, index: int) -> Figure | None:
    curves = [group.curves[index] for group in comparison.groups]
    known = [v for curve in curves for v in [*curve.low, *curve.high] if v is not None]
    end = curves[0].spent[-1] if curves[0].spent else 0.0
    if not known or end <= 0:
        return None
    frame = Frame()
    unit = curves[0].unit
    divisor, word = time_unit(end) if unit == "seconds" else (1.0, unit)
    word = f"{comparison.step}s" if unit == "epochs" else word
    y = value_scale(known, comparison.direction == "maximize", frame.y0, frame.y1)
    x = Linear(0.0, end / divisor, frame.x0, frame.x1, 6)
    drawing = Drawing(frame)
    drawing.axes(x, y, word, comparison.metric)
    for place, (group, curve) in enumerate(zip(comparison.groups, curves, strict=True)):
        colour = place % COLOURS
        if len(group.studies) > 1:
            upper, lower = (_line(curve, each, x, y, divisor) for each in ("high", "low"))
            drawing.band(f"band f{colour}", upper, lower)
        drawing.line(f"series s{colour}", _line(curve, "median", x, y, divisor))
        top = frame.y0 - 12 - 16 * (len(curves) - 1 - place)
        drawing.path(f"line series s{colour}", f"M{frame.x1 - 150:g} {top - 4:g}h18")
        drawing.text(frame.x1 - 126, top, clip(group.name, 18), "tick halo")
    several = max(len(group.studies) for group in comparison.groups)
    band = " The line is the median of the seeds, the band their range." if several > 1 else ""
    caption = f"The best {comparison.metric} so far.{band}"
    title = f"Best over {'time' if unit == 'seconds' else word}"
    return Figure(f"over-{unit}", title, caption, drawing.body, frame.width, frame.height)


def _line(
    curve: Curve, which: str, x: Linear, y: Linear, divisor: float
) -> list[tuple[float, float]]:
    values: list[float | None] = getattr(curve, which)
    return [
        (x.place(spent / divisor) or 0.0, y.place(value) or 0.0)
        for spent, value in zip(curve.spent, values, strict=True)
        if value is not None
    ]
