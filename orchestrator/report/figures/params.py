"""Figures of parameters: slices, parallel coordinates and contours."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
from PIL import Image

from orchestrator.base.printed import clip
from orchestrator.report.figures.search import evenly, outside, value_scale
from orchestrator.report.figures.svg import (
    Category,
    Drawing,
    Figure,
    Frame,
    Log,
    Scale,
    attempt,
    scale_of,
)
from orchestrator.report.numbers import MOST, counted, percent
from orchestrator.report.summary import Summary, TrialSummary

_MOST_SLICES = 6
_MOST_DOTS = 1500
_MOST_LINES = 400
_MOST_AXES = 9
_MOST_KEY = 60


def importances(summary: Summary) -> Figure | None:
    """A bar for each parameter and method, with the interval where there is one."""
    if not summary.importances:
        return None
    claim = summary.importance_claim
    fanova = summary.importances_fanova or {}
    names = list(summary.importances)[:12]
    row, frame = 38.0, Frame()
    left, full = 150.0, 310.0
    drawing = Drawing(frame)
    for index, name in enumerate(names):
        top = 30 + index * row
        drawing.text(left - 10, top + 15, clip(name, 20), "end")
        for offset, found, style in ((0, summary.importances, "complete"), (11, fanova, "best")):
            share = found.get(name)
            if share is not None:
                drawing.bar(f"fill-{style}", left, top + offset, share * full, 9)
        shares = [each[name] for each in (summary.importances, fanova) if name in each]
        reach = max(shares, default=0)
        if name in claim.intervals:
            low, high = claim.intervals[name]
            drawing.path(
                "axis", f"M{left + low * full:.1f} {top + 4.5:.1f}H{left + high * full:.1f}"
            )
            reach = max(reach, high)
        drawing.text(left + reach * full + 8, top + 15, _shares(shares), "tick")
    drawing.bar("fill-complete", left, 8, 9, 9)
    drawing.text(left + 14, 17, claim.method or "share", "tick")
    if fanova:
        drawing.bar("fill-best", left + 96, 8, 9, 9)
        drawing.text(left + 110, 17, "fANOVA", "tick")
    caption = _caption(summary)
    return Figure(
        "importances", "Importance of the parameters", caption, drawing.body, frame.width,
        max(120.0, 40 + len(names) * row),
    )  # fmt: skip


def _caption(summary: Summary) -> str:
    claim = summary.importance_claim
    if not claim.intervals:
        together = f" Combinations explain {percent(claim.together)}." if claim.together else ""
        return f"Share of the variance over the whole grid.{together}"
    found = claim.reason or f"{claim.parameter} mattered most by both methods"
    said = f" {found[:1].upper()}{found[1:]}." if claim.reason or claim.parameter else ""
    return f"Share of the importance; the lines are 95 % intervals.{said}"


def _shares(shares: Sequence[float]) -> str:
    return " and ".join(percent(share) for share in shares)


def parallel(summary: Summary) -> Figure | None:
    """One line a trial through all parameters, the better the stronger."""
    ranked = summary.ranked()
    names = by_importance(summary)[:_MOST_AXES]
    if len(ranked) < 2 or not names:
        return None
    frame = Frame(width=1120, height=340, left=70, right=90, top=40, bottom=24)
    drawing = Drawing(frame)
    gap = (frame.x1 - frame.x0) / len(names)
    scales = [_param_scale(summary, ranked, name, frame.y0, frame.y1) for name in names]
    values = [trial.value for trial in ranked if trial.value is not None]
    metric = value_scale(values, summary.maximize, frame.y0, frame.y1)
    drawn = [ranked[0], *evenly(ranked[1:], _MOST_LINES - 1)]
    points = []
    lines: list[list[tuple[float, float]]] = []
    for trial in drawn:
        places = [
            scale.place(trial.params[name]) if name in trial.params else None
            for name, scale in zip(names, scales, strict=True)
        ]
        line = [(frame.x0 + i * gap, at) for i, at in enumerate(places) if at is not None]
        line.append((frame.x1, metric.place(trial.value) or frame.y0))
        lines.append(line)
        points += [(*at, trial.number) for at in line]
    quarter = max(1, -(-len(drawn) // 4))
    for rank in (3, 2, 1, 0):
        members = lines[rank * quarter : (rank + 1) * quarter]
        path = "".join("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in line) for line in members)
        drawing.path(f"line q{3 - rank}", path)
    drawing.line("best", lines[0])
    for index, (name, scale) in enumerate(
        zip([*names, summary.metrics[0]], [*scales, metric], strict=True)
    ):
        at = frame.x0 + index * gap
        drawing.path("upright", f"M{at:.1f} {frame.y0:g}V{frame.y1:g}")
        drawing.text(at, 20, clip(name, 15), "strong middle")
        for place, word in scale.ticks():
            drawing.text(at + 6, place + 4, word, "tick halo")
    few = (
        f" {len(drawn)} of {counted(len(ranked), 'trial')} drawn."
        if len(drawn) < len(ranked)
        else ""
    )
    caption = (
        "A line is a complete trial: blue in the better half, grey in the other, orange the best."
        + few
    )
    return Figure(
        "parallel", "Parallel coordinates", caption, drawing.body, frame.width, frame.height,
        points, size="wide",
    )  # fmt: skip


def slices(summary: Summary) -> list[Figure]:
    """The value against each parameter, in the order of :func:`by_importance`."""
    shown = [t for t in summary.trials if t.value is not None and t.state in ("COMPLETE", "PRUNED")]
    found = []
    for name in by_importance(summary)[:_MOST_SLICES]:
        members = [trial for trial in shown if name in trial.params]
        if len(members) > 1:
            draw = partial(_slice, summary, name, evenly(members, _MOST_DOTS))
            found.append(attempt(f"slice-{file_key(name)}", name, draw))
    return [figure for figure in found if figure is not None]


def _slice(summary: Summary, name: str, members: Sequence[TrialSummary]) -> Figure:
    frame = Frame(width=380, height=220, left=66)
    values = [trial.value for trial in members if trial.value is not None]
    y = value_scale(values, summary.maximize, frame.y0, frame.y1)
    x = _param_scale(summary, members, name, frame.x0 + 8, frame.x1 - 8)
    drawing = Drawing(frame)
    drawing.axes(x, y, name + (" (logarithmic)" if isinstance(x, Log) else ""), summary.metrics[0])
    points = [
        (x.place(trial.params[name]) or 0.0, y.place(trial.value) or 0.0, trial.number)
        for trial in members
        if x.place(trial.params[name]) is not None
    ]
    pruned = {trial.number for trial in members if trial.state == "PRUNED"}
    drawing.dots("pruned", [(a, b) for a, b, number in points if number in pruned])
    drawing.dots("complete", [(a, b) for a, b, number in points if number not in pruned])
    for a, b, number in points:
        if summary.best is not None and number == summary.best.number:
            drawing.star(a, b)
    caption = f"Its value against {summary.metrics[0]}.{outside(values, y)}"
    return Figure(
        f"slice-{file_key(name)}", name, caption, drawing.body, frame.width, frame.height, points,
        size="third",
    )  # fmt: skip


def by_importance(summary: Summary) -> list[str]:
    """The parameters that had more than one value: by their share, else in their order."""
    shares = summary.importances
    return sorted(summary.varied_params(), key=lambda name: -shares.get(name, 0.0))


def is_log(summary: Summary, name: str) -> bool:
    """Whether a parameter is best shown by ratios: its domain says so, or its values do."""
    domain = summary.spec.get("space", {}).get(name)
    if isinstance(domain, Mapping) and "log" in domain:
        return bool(domain["log"])
    values = [trial.params[name] for trial in summary.trials if name in trial.params]
    numbers = [v for v in values if isinstance(v, float) and v > 0]
    return len(numbers) == len(values) > 1 and max(numbers) / min(numbers) >= 50


def _param_scale(
    summary: Summary, trials: Sequence[TrialSummary], name: str, start: float, end: float
) -> Scale:
    values = [trial.params[name] for trial in trials if name in trial.params]
    return scale_of(values, start, end, is_log(summary, name))


def file_key(name: str) -> str:
    """The name as a part of a file's name, which not every system takes in other scripts."""
    signs = (
        each if each.isascii() and each.isalnum() else "-" if each.isascii() else f"u{ord(each):x}"
        for each in name
    )
    key = "".join(signs)
    return key if len(key) <= _MOST_KEY else f"{key[:_MOST_KEY]}-{zlib.crc32(key.encode()):08x}"


# Contours: the value over two parameters, as a smooth map of the trials that were run.
#
# The map is a Nadaraya-Watson mean with a Gaussian kernel (E. A. Nadaraya, "On Estimating
# Regression", 1964) of the rank of the value; where no trial is near, nothing is drawn.

_MOST_TRIALS = 600
_MOST_PARAMETERS = 3
_CELLS = 56
_KERNEL = 0.09  # of an axis's length
# Cividis, made for colour-blind eyes: J. Nunez et al., PLoS ONE 13 (2018).
_COLOURS = np.array(
    [(0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56)]
)


def contours(summary: Summary) -> list[Figure]:
    """A map for each pair of the first three numeric parameters by importance, else in order."""
    ranked = summary.ranked()
    if len(ranked) < 6:
        return []
    numeric = [
        name
        for name in by_importance(summary)
        if all(_is_number(trial.params.get(name)) for trial in ranked)
        and len({trial.params[name] for trial in ranked}) > 3
    ]
    pairs = combinations(numeric[:_MOST_PARAMETERS], 2)
    found = [
        attempt(
            _key(first, second), f"{first} and {second}",
            partial(_map, summary, first, second, ranked),
        )
        for first, second in pairs
    ]  # fmt: skip
    return [figure for figure in found if figure is not None]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST


def _key(first: str, second: str) -> str:
    return f"contour-{file_key(first)}-{file_key(second)}"


def _map(summary: Summary, first: str, second: str, ranked: Sequence[TrialSummary]) -> Figure:
    frame = Frame(width=380, height=300, left=66)
    members = [ranked[0], *evenly(ranked[1:], _MOST_TRIALS - 1)]

    def scale(name: str, start: float, end: float) -> Scale:
        values = [trial.params[name] for trial in members]
        return scale_of(values, start, end, is_log(summary, name))

    x, y = scale(first, frame.x0, frame.x1), scale(second, frame.y0, frame.y1)
    assert not isinstance(x, Category) and not isinstance(y, Category)
    places = [(x.place(t.params[first]) or 0.0, y.place(t.params[second]) or 0.0) for t in members]
    drawing = Drawing(frame)
    picture = _picture(frame, places, [trial.value or 0.0 for trial in members], summary)
    width, height = frame.x1 - frame.x0, frame.y0 - frame.y1
    drawing.parts.append(
        f'<image x="{frame.x0:g}" y="{frame.y1:g}" width="{width:g}" height="{height:g}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>'
    )
    drawing.axes(x, y, first, second)
    drawing.dots("on-map", places)
    drawing.star(*places[0])
    caption = (
        f"Bright is good, dark is bad, by the rank of {summary.metrics[0]}; dots are complete "
        "trials, the ring is the best."
    )
    return Figure(
        _key(first, second), f"{first} and {second}", caption,
        drawing.body, frame.width, frame.height,
        [(*place, trial.number) for place, trial in zip(places, members, strict=True)],
        size="third",
    )  # fmt: skip


def _picture(
    frame: Frame, places: Sequence[tuple[float, float]], values: Sequence[float], summary: Summary
) -> str:
    """The map as a PNG in base64; transparent where no trial is near."""
    from scipy.stats import rankdata  # slow to load; short commands draw no map

    points = np.array(places)
    size = np.array([frame.x1 - frame.x0, frame.y0 - frame.y1])
    shares = (points - [frame.x0, frame.y1]) / size
    sign = 1.0 if summary.maximize else -1.0
    good = rankdata(sign * np.array(values)) / len(values)
    centres = (np.arange(_CELLS) + 0.5) / _CELLS
    weight_x = np.exp(-0.5 * ((centres[:, None] - shares[:, 0]) / _KERNEL) ** 2)
    weight_y = np.exp(-0.5 * ((centres[:, None] - shares[:, 1]) / _KERNEL) ** 2)
    total = weight_y @ weight_x.T
    mean = (weight_y * good) @ weight_x.T / np.maximum(total, 1e-12)
    stops = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(mean, stops, _COLOURS[:, band]) for band in range(3)], axis=-1)
    alpha = 255 * np.clip(total / 0.3, 0, 1)
    pixels = np.concatenate([colour, alpha[..., None]], axis=-1).astype(np.uint8)
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "PNG", optimize=True)  # what shows it makes it smooth
    return base64.b64encode(output.getvalue()).decode()
