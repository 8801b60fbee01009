"""Ranking: which of two values of a metric is the better one."""

from __future__ import annotations

import math


def rank(value: float | None, maximize: bool) -> float:
    """A number that is the lower the better the value is; what is no number ranks last."""
    if value is None or math.isnan(value):
        return math.inf
    return -value if maximize else value
