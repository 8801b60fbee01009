"""The search as it went: history, learning curves, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.report.figures.scales import Linear, Scale, value_range
from orchestrator.report.figures.svg import Drawing, Figure, Frame
from orchestrator.report.numbers import counted
from orchestrator.report.summary import Summary, TrialSummary

_MOST_CURVES = 200  # of each kind; more lines are a carpet


def value_scale(values: Sequence[float], maximize: bool, start: float, end: float) -> Linear:
    """The scale of a metric: the best in full, the far tail of bad values on the frame."""
    return Linear(*value_range(values, maximize), start, end)


def outside(values: Sequence[float], scale: Linear) -> str:
    """A sentence about the values that are drawn on the frame; empty where there is none."""
    count = sum(not scale.low <= value <= scale.high for value in values)
    return f" {counted(count, 'far value')} on the frame." if count else ""


def history(summary: Summary) -> Figure | None:
    """Every trial's value in the trials' order, with the best so far."""
    shown = [t for t in summary.trials if t.value is not None or t.state == "FAIL"]
    if not shown:
        return None
    frame = Frame()
    values = [t.value for t in shown if t.value is not None]
    maximize = summary.maximize
    y = value_scale(values, maximize, frame.y0, frame.y1)
    x = Linear(-0.5, max(t.number for t in shown) + 0.5, frame.x0, frame.x1, 6, whole=True)
    drawing = Drawing(frame)
    drawing.axes(x, y, "trial", summary.metrics[0])
    points = []
    by_state: dict[str, list[tuple[float, float]]] = {}
    for trial in shown:
        at = (x.place(trial.number) or 0.0, y.place(trial.value) or frame.y0)
        by_state.setdefault(trial.state, []).append(at)
        points.append((*at, trial.number))
    drawing.dots("pruned", by_state.get("PRUNED", []))
    drawing.dots("complete", by_state.get("COMPLETE", []))
    drawing.crosses("failed", by_state.get("FAIL", []))
    if not summary.is_multi_objective:
        best_line = [(x.place(n) or 0.0, y.place(v) or 0.0) for n, v in summary.best_so_far()]
        drawing.steps("best", best_line, frame.x1)
        _mark_best(summary, drawing, x, y)
    caption = (
        f"The {summary.metrics[0]} of each trial: blue is complete, grey is pruned; the line is "
        f"the best so far.{outside(values, y)}"
    )
    return Figure(
        "history", "Optimisation history", caption, drawing.body, frame.width, frame.height,
        points,
    )  # fmt: skip


def _mark_best(summary: Summary, drawing: Drawing, x: Scale, y: Scale) -> None:
    if summary.best is not None:
        at = x.place(summary.best.number), y.place(summary.best.value)
        if at[0] is not None and at[1] is not None:
            drawing.star(at[0], at[1])


def curves(summary: Summary) -> Figure | None:
    """Each trial's reported values; the pruned ones dimmed, the winner in front."""
    with_curve = [t for t in summary.trials if t.intermediate]
    if max((len(t.intermediate) for t in with_curve), default=0) < 2 or summary.is_multi_objective:
        return None
    frame = Frame()
    finite = [v for t in with_curve for v in t.intermediate.values() if v is not None]
    steps = [int(step) for t in with_curve for step in t.intermediate]
    y = value_scale(finite, summary.maximize, frame.y0, frame.y1)
    x = Linear(min(steps), max(steps), frame.x0, frame.x1, 8, whole=True)
    drawing = Drawing(frame)
    drawing.axes(x, y, summary.step, summary.metrics[0])
    points = []
    notes = []
    for state, style in (("PRUNED", "pruned"), ("COMPLETE", "complete")):
        members = [t for t in with_curve if t.state == state]
        drawn = evenly(members, _MOST_CURVES)
        if len(drawn) < len(members):
            notes.append(f"{len(drawn)} of {counted(len(members), f'{style} curve')} drawn")
        lines = [_curve(t, x, y) for t in drawn]
        path = "".join(
            "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in line) for line in lines if line
        )
        drawing.path(f"line {style}", path)
        points += [(*line[-1], t.number) for t, line in zip(drawn, lines, strict=True) if line]
    best = next((t for t in with_curve if summary.best and t.number == summary.best.number), None)
    if best is not None:
        line = _curve(best, x, y)
        drawing.line("best", line)
        drawing.star(*line[-1])
        points.append((*line[-1], best.number))
    extra = f" {'; '.join(notes)}." if notes else ""
    caption = (
        f"The {summary.metrics[0]} by {summary.step}: pruned trials are grey, the best is "
        f"orange.{extra}{outside(finite, y)}"
    )
    return Figure(
        "curves", "Learning curves", caption, drawing.body, frame.width, frame.height, points
    )


def _curve(trial: TrialSummary, x: Scale, y: Scale) -> list[tuple[float, float]]:
    places = [(x.place(int(step)), y.place(value)) for step, value in trial.intermediate.items()]
    return [(a, b) for a, b in places if a is not None and b is not None]


def pareto(summary: Summary) -> Figure | None:
    """The first two metrics against each other, with the trials that none beats."""
    shown = [t for t in summary.trials if t.values and len(t.values) > 1]
    if not summary.is_multi_objective or not shown:
        return None
    frame = Frame(height=340)
    columns = [[t.values[i] for t in shown if t.values] for i in (0, 1)]
    up = [direction == "maximize" for direction in summary.directions]
    x = value_scale(columns[0], up[0], frame.x0, frame.x1)
    y = value_scale(columns[1], up[1], frame.y0, frame.y1)
    drawing = Drawing(frame)
    titles = [f"{m} ({d})" for m, d in zip(summary.metrics, summary.directions, strict=True)]
    drawing.axes(x, y, titles[0], titles[1])
    points = [
        (x.place(t.values[0]) or 0.0, y.place(t.values[1]) or 0.0, t.number)
        for t in shown
        if t.values
    ]
    on_front = set(summary.pareto)
    drawing.dots("complete", [(a, b) for a, b, number in points if number not in on_front])
    front = sorted((a, b) for a, b, number in points if number in on_front)
    drawing.line("best", front)
    for at in front:
        drawing.star(*at)
    caption = "Rings are the Pareto front: no trial beats them in every metric."
    return Figure(
        "pareto", "Pareto front", caption, drawing.body, frame.width, frame.height, points
    )


def evenly(trials: Sequence[TrialSummary], most: int) -> list[TrialSummary]:
    """At most so many of them, evenly spread."""
    if len(trials) <= most:
        return list(trials)
    return [trials[place] for place in np.linspace(0, len(trials) - 1, most).astype(int)]
