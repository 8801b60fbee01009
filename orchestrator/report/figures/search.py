"""The search as it went: history, learning curves and the Pareto front; and several compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from orchestrator.base.printed import clip
from orchestrator.report.compare import Comparison, Curve
from orchestrator.report.figures.svg import (
    Category,
    Drawing,
    Figure,
    Frame,
    Linear,
    Log,
    Scale,
    attempt,
    not_drawn,
    polyline,
    time_unit,
    value_range,
)
from orchestrator.report.numbers import counted
from orchestrator.report.summary import Best, Summary, TrialSummary

_MOST_CURVES = 200  # of each kind; more lines are a carpet
# What is logged has many figures, of which a page shows one at a time: each is small.
_MOST_LOGS = 24
_MOST_LOGGED = 40  # trials of each kind
MOST_LOGGED_STEPS = 50
_WIDE = 1000.0  # the highest of a learning rate's values is as many times the lowest
_STYLES = {"PRUNED": "pruned", "COMPLETE": "complete"}
_COLOURS = 8  # s0 to s7 of figures.css


def value_scale(values: Sequence[float], maximize: bool, start: float, end: float) -> Linear:
    """The scale of a metric: the best in full, the far tail of bad values on the frame."""
    return Linear(*value_range(values, maximize), start, end)


def outside(values: Sequence[float], scale: Linear) -> str:
    """A sentence about the values that are drawn on the frame; empty where there is none."""
    count = sum(not scale.low <= value <= scale.high for value in values)
    return f" {counted(count, 'far value')} on the frame." if count else ""


def history(summary: Summary) -> Figure | None:
    """Every trial's value with the best so far, over the trials and in a further view over time."""
    shown = [t for t in summary.trials if t.value is not None or t.state == "FAIL"]
    if not shown:
        return None
    frame = Frame()
    last = max(t.number for t in shown)
    x = Linear(-0.5, last + 0.5, frame.x0, frame.x1, 6, whole=True)
    at = {t.number: float(t.number) for t in shown}
    over_trials = _history(summary, shown, at, x, "trial", summary.best_so_far(), "over trials")
    ends = {t.number: t.ended_seconds for t in shown if t.ended_seconds is not None}
    latest = max(ends.values(), default=0.0)
    if latest <= 0 or summary.is_multi_objective:
        return over_trials
    unit, word = time_unit(latest)
    x = Linear(0.0, latest / unit, frame.x0, frame.x1, 6)
    at = {number: seconds / unit for number, seconds in ends.items()}
    best = [(each.number, each.value) for each in summary.best_over_time]
    ended = [t for t in shown if t.number in at]
    over_time = _history(summary, ended, at, x, f"{word} since the start", best, "over time")
    return replace(over_trials, views=[replace(over_time, key="history-time")])


def _history(
    summary: Summary,
    shown: Sequence[TrialSummary],
    at: Mapping[int, float],
    x: Linear,
    x_title: str,
    best: Sequence[tuple[int, float]],
    over: str,
) -> Figure:
    """The values of some trials.

    Args:
        summary: the study.
        shown: the trials.
        at: where each is on the horizontal axis, by its number.
        x: that axis.
        x_title: what it means.
        best: the trials that were the best so far: number and value.
        over: what the axis is over, in words.
    """
    frame = Frame()
    values = [t.value for t in shown if t.value is not None]
    y = value_scale(values, summary.maximize, frame.y0, frame.y1)
    drawing = Drawing(frame)
    drawing.axes(x, y, x_title, summary.metrics[0])
    points = []
    by_state: dict[str, list[tuple[float, float]]] = {}
    for trial in shown:
        place = (x.place(at[trial.number]) or 0.0, y.place(trial.value) or frame.y0)
        by_state.setdefault(trial.state, []).append(place)
        points.append((*place, trial.number))
    drawing.dots("pruned", by_state.get("PRUNED", []))
    drawing.dots("complete", by_state.get("COMPLETE", []))
    drawing.crosses("failed", by_state.get("FAIL", []))
    if not summary.is_multi_objective:
        line = [(x.place(at[number]) or 0.0, y.place(value) or 0.0) for number, value in best]
        drawing.steps("best", line, frame.x1)
        if summary.best is not None and summary.best.number in at:
            _mark(drawing, x.place(at[summary.best.number]), y.place(summary.best.value))
    caption = (
        f"The {summary.metrics[0]} of each trial: blue is complete, grey is pruned; the line is "
        f"the best so far.{outside(values, y)}"
    )
    return Figure(
        "history", "Optimisation history", caption, drawing.body, frame.width, frame.height,
        points, shows=over,
    )  # fmt: skip


def _mark(drawing: Drawing, x: float | None, y: float | None) -> None:
    if x is not None and y is not None:
        drawing.star(x, y)


def curves(summary: Summary) -> Figure | None:
    """Each trial's reported values, and in further views what else the trials log."""
    reported = _reported_curves(summary)
    views = [reported] if reported is not None else []
    names = list(dict.fromkeys(name for trial in summary.trials for name in trial.logs))
    if reported is not None and summary.rounds == 1 and summary.metrics[0] in names:
        names.remove(summary.metrics[0])  # it is what is reported
    shown = with_drawn_logs(summary.trials, summary.best)
    for index, name in enumerate(names[:_MOST_LOGS]):
        view = _logged_curves(summary, shown, name)
        if view is not None:
            views.append(replace(view, key=f"curves-{index}"))
    if not views:
        return None
    first = replace(views[0], key="curves")
    left_out = len(names) - _MOST_LOGS
    if left_out > 0:
        more = f" {counted(left_out, 'further log')} only in the JSON."
        first = replace(first, caption=first.caption + more)
    return replace(first, views=views[1:])


def with_drawn_logs(trials: Sequence[TrialSummary], best: Best | None) -> list[TrialSummary]:
    """The trials whose logs the page draws, the best last."""
    number = None if best is None else best.number
    drawn = [
        trial
        for state in ("PRUNED", "COMPLETE")
        for trial in evenly([each for each in trials if each.state == state], _MOST_LOGGED)
        if trial.number != number
    ]
    return drawn + [trial for trial in trials if trial.number == number]


def _reported_curves(summary: Summary) -> Figure | None:
    """The pruned ones dimmed, the winner in front."""
    with_curve = [t for t in summary.trials if t.intermediate]
    if max((len(t.intermediate) for t in with_curve), default=0) < 2 or summary.is_multi_objective:
        return None
    drawn, notes = [], []
    for state, style in _STYLES.items():
        members = [t for t in with_curve if t.state == state]
        some = evenly(members, _MOST_CURVES)
        if len(some) < len(members):
            notes.append(f"{len(some)} of {counted(len(members), f'{style} curve')} drawn")
        drawn += some
    extra = f" {'; '.join(notes)}." if notes else ""
    lines = {trial.number: trial.intermediate for trial in with_curve}
    finite = [v for line in lines.values() for v in line.values() if v is not None]
    return _draw_curves(
        summary, drawn, lines, summary.metrics[0], value_range(finite, summary.maximize), extra
    )


def _logged_curves(summary: Summary, drawn: list[TrialSummary], name: str) -> Figure | None:
    lines = {trial.number: _thinned(trial.logs[name]) for trial in drawn if name in trial.logs}
    finite = sorted(v for line in lines.values() for v in line.values() if v is not None)
    if not finite:
        return None
    notes = []
    for state, style in _STYLES.items():
        count = sum(trial.state == state for trial in summary.trials)
        if count > _MOST_LOGGED:
            notes.append(f"{_MOST_LOGGED} of {counted(count, f'{style} trial')} drawn")
    # Nobody says which end is good: the one near which most values lie is shown in full.
    upwards = finite[-1] - finite[len(finite) // 2] < finite[len(finite) // 2] - finite[0]
    extra = f" {'; '.join(notes)}." if notes else ""
    return _draw_curves(summary, drawn, lines, name, value_range(finite, upwards), extra)


def _thinned(line: dict[str, float | None]) -> dict[str, float | None]:
    """At most as many steps as the drawing tells apart, the last among them."""
    every = -(-len(line) // MOST_LOGGED_STEPS)
    return (
        line
        if every == 1
        else {**dict(list(line.items())[::every]), **dict(list(line.items())[-1:])}
    )


def _draw_curves(
    summary: Summary,
    drawn: Sequence[TrialSummary],
    lines: Mapping[int, Mapping[str, float | None]],
    name: str,
    ends: tuple[float, float],
    extra: str,
) -> Figure:
    """Lines by the trials' numbers; of all of them, those that are drawn."""
    frame = Frame()
    steps = [int(step) for line in lines.values() for step in line]
    finite = [value for line in lines.values() for value in line.values() if value is not None]
    y = _upright(finite, ends, frame)
    first, last = min(steps), max(steps)
    x = Linear(first, last if last > first else first + 1, frame.x0, frame.x1, 8, whole=True)
    drawing = Drawing(frame)
    drawing.axes(x, y, summary.step, name)
    points: list[tuple[float, float, int]] = []
    for state, style in _STYLES.items():
        data = ""
        for trial in drawn:
            line = _places(lines.get(trial.number, {}), x, y) if trial.state == state else []
            if line:
                data += polyline(line)
                points.append((*line[-1], trial.number))
        drawing.path(f"line {style}", data)
    best = summary.best and _places(lines.get(summary.best.number, {}), x, y)
    if summary.best and best:
        drawing.line("best", best)
        drawing.star(*best[-1])
        points.append((*best[-1], summary.best.number))
    far = outside(finite, y) if isinstance(y, Linear) else ""
    caption = (
        f"The {name} by {summary.step}: pruned trials are grey, the best is orange.{extra}{far}"
    )
    return Figure(
        "curves", "Learning curves", caption, drawing.body, frame.width, frame.height, points,
        shows=name,
    )  # fmt: skip


def _upright(finite: Sequence[float], ends: tuple[float, float], frame: Frame) -> Linear | Log:
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if low > 0 and high / low > _WIDE:
        return Log(low, high, frame.y0, frame.y1)
    return Linear(*ends, frame.y0, frame.y1)


def _places(line: Mapping[str, float | None], x: Scale, y: Scale) -> list[tuple[float, float]]:
    places = [(x.place(int(step)), y.place(value)) for step, value in line.items()]
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


def comparison_figures(comparison: Comparison) -> list[Figure]:
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
            f"s{index % _COLOURS} large",
            [
                (at + half * (2 * (each + 0.5) / len(group.values) - 1), y.place(value) or 0.0)
                for each, value in enumerate(group.values)
            ],
        )
        mean = y.place(group.mean) or 0.0
        drawing.line(f"series s{index % _COLOURS}", [(at - half, mean), (at + half, mean)])
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
        colour = place % _COLOURS
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
