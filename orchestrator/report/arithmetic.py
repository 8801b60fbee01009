"""Arithmetic on values of any size: no sum, square or difference overflows or vanishes.

NumPy's error state is set in each function: that of the process is the user's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST = sys.float_info.max


@np.errstate(all="ignore")
def scaled(values: Sequence[float] | Array) -> tuple[Array, int]:
    """The values as parts of a power of two, at most 1, and its exponent.

    Such a division changes no digit, so what follows is that of the values themselves.

    Args:
        values: finite.
    """
    array = np.asarray(values, dtype=np.float64)
    exponent = math.frexp(float(np.max(np.abs(array), initial=0.0)))[1]
    # In two steps: a power of two that makes the least floats large is none itself.
    return np.ldexp(np.ldexp(array, -(exponent // 2)), -(exponent - exponent // 2)), exponent


@np.errstate(all="ignore")
def mean(values: Sequence[float]) -> float:
    """Of finite values; there must be one."""
    parts, exponent = scaled(values)
    return whole(float(np.mean(parts)), exponent)


@np.errstate(all="ignore")
def deviation(values: Sequence[float], ddof: int) -> float:
    """The standard deviation of finite values; infinite where no float holds it."""
    parts, exponent = scaled(values)
    return whole(float(np.std(parts, ddof=ddof)), exponent)


@np.errstate(all="ignore")
def median(values: Sequence[float]) -> float:
    """Of finite values; there must be one."""
    parts, exponent = scaled(values)
    return whole(float(np.median(parts)), exponent)


def share(value: float, low: float, high: float) -> float:
    """Where a value lies from ``low`` to ``high``: from 0 to 1, also of one that lies outside."""
    if value >= high > low:
        return 1.0
    if not low < value < high:
        return 0.0
    span = high - low
    if math.isfinite(span):
        return (value - low) / span
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def finite(value: float) -> float:
    """The value, or the largest float of its sign."""
    return min(MOST, max(-MOST, value))


def whole(part: float, exponent: int) -> float:
    """A part of :func:`scaled` as it was; infinite where no float holds it."""
    try:
        return math.ldexp(part, exponent)
    except OverflowError:
        return math.copysign(math.inf, part)
