"""Significance: is the difference of two groups of best values more than noise?

The test is the exact two-sided permutation test of the difference of the groups' mean best values
(R. A. Fisher, "The Design of Experiments", 1935, section 21), with Holm's correction where more
than two groups are compared. It supposes nothing about how best values are spread. Its smallest
possible p with n seeds against m is 2 / C(n + m, n): with fewer than four against four it cannot
reach 0.05, and then it is said that there are too few seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from orchestrator.report.numbers import scaled

LEVEL = 0.05  # a smaller p is more than noise
_MOST_PERMUTATIONS = 20_000


def permutation_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The p of the difference of the means; None where it could not get below 0.05."""
    if not first or not second:
        return None
    if 2 / math.comb(len(first) + len(second), len(first)) > LEVEL:
        return None
    parts, _ = scaled([*first, *second])
    found = stats.permutation_test(
        (parts[: len(first)], parts[len(first) :]),
        lambda a, b: np.mean(a) - np.mean(b),
        n_resamples=_MOST_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979)."""
    told = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(told):
        highest = max(highest, min(1.0, value * (len(told) - rank)))
        corrected[place] = highest
    return corrected
