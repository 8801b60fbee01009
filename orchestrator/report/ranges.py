"""Ranges: what part of a metric a plot shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_FAR = 6.0  # times the distance of the median from the best


def value_range(values: Sequence[float], maximize: bool) -> tuple[float, float]:
    """Low and high ends that show the best in full; the far tail of bad values is outside."""
    if not values:
        return 0.0, 1.0
    top, bound = (max(values), min(values)) if maximize else (min(values), max(values))
    usual = abs(top - float(np.median(values)))
    if abs(top - bound) > _FAR * usual > 0:
        bound = top - math.copysign(_FAR * usual, top - bound)
    margin = 0.04 * abs(top - bound) or abs(top) * 0.05 or 0.5
    return min(top, bound) - margin, max(top, bound) + margin
