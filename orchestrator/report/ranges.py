"""Ranges: what part of a metric a plot shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.report.arithmetic import finite, median, scaled, whole

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
