"""Numbers in a report: reckoned without an overflow, and written as people read them.

No sum, square or difference of finite values overflows or vanishes. NumPy's error state is set in
each function: that of the process is the user's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.base.printed import clip, escaped, rounded

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


_MOST_DIGITS = 24


def number(value: object) -> str:
    """A figure with the digits that matter; a whole number has all of its own; text in one line."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escaped(str(value))
    if abs(value) > sys.float_info.max:  # infinite, or a whole number that no float holds
        return clip(str(value), _MOST_DIGITS)
    return rounded(value, 4 if abs(value) < 0.1 else 5)


def difference(first: float | None, second: float | None) -> str:
    """How far two values are apart, in two digits; also where no float holds that."""
    apart = abs((first or 0.0) - (second or 0.0))
    if math.isfinite(apart):
        return rounded(apart, 2)
    halves = abs((first or 0.0) / 2 - (second or 0.0) / 2)
    head, _, exponent = f"{halves:e}".partition("e")
    twice = 2 * float(head)
    digits, power = (twice, 0) if twice < 9.95 else (twice / 10, 1)
    return f"{digits:.2g}e+{int(exponent) + power}"


def duration(seconds: float) -> str:
    """``8.2 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(count: int, noun: str) -> str:
    """``1 trial``, ``10,000 trials``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def retries(count: int) -> str:
    """``; 2 retries`` behind a count of trials; empty where there are none."""
    return f"; {count:,} {'retry' if count == 1 else 'retries'}" if count else ""


def step_word(has_epochs: bool, rounds: int) -> str:
    """What a reported value stands for; with folds or repeats, each is a training."""
    return "training" if rounds > 1 else "epoch" if has_epochs else "step"


def percent(ratio: float | None) -> str:
    """``56 %``, or a dash without a ratio."""
    return "-" if ratio is None else f"{ratio * 100:.0f} %"


def values_line(metrics: Sequence[str], values: Sequence[float]) -> str:
    """``val_accuracy 0.97, parameters 41000``."""
    pairs = zip(metrics, values, strict=True)
    return ", ".join(f"{metric} {number(value)}" for metric, value in pairs)


def plus_minus(standard_error: float | None) -> str:
    """The standard error behind a mean; empty where there is none."""
    return "" if standard_error is None else f" ± {number(standard_error)}"


def params_line(params: Mapping[str, Any]) -> str:
    """``units=64 dropout=0.1``."""
    return " ".join(f"{name}={number(value)}" for name, value in params.items()) or "no parameters"


def data_sizes(data: Mapping[str, Any]) -> str:
    """The sizes of a study's data, and of what its SHA-256 is; what is iterated has no sizes."""
    words = {"train": "training", "validation": "validation", "test": "test"}
    sizes = [f"{data[key]} {word}" for key, word in words.items() if data.get(key) is not None]
    pinned_by = data.get("pinned_by", "arrays")
    sha256 = "SHA-256" if pinned_by == "arrays" else f"SHA-256 of {pinned_by}"
    return f"{', '.join(sizes)}; {sha256}" if sizes else sha256
