"""Contours: the value over two parameters, as a smooth map of the trials that were run.

The map is a Nadaraya-Watson mean with a Gaussian kernel (E. A. Nadaraya, "On Estimating
Regression", 1964) of the rank of the value; where no trial is near, nothing is drawn.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np
from PIL import Image
from scipy.stats import rankdata

from orchestrator.report.arithmetic import MOST
from orchestrator.report.document import Summary, TrialSummary
from orchestrator.report.figures.params import by_importance, file_key, is_log
from orchestrator.report.figures.scales import Category, Scale, scale_of
from orchestrator.report.figures.search import evenly
from orchestrator.report.figures.svg import Drawing, Figure, Frame, attempt

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
