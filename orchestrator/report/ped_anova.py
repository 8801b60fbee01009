"""PED-ANOVA on arrays, for many weightings of the same trials at once: a bootstrap in one pass.

S. Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces", IJCAI 2023, with the regimes of conditional parameters of K. Iwamoto et al., KDD 2026.
The figures are those of ``optuna.importance.PedAnovaImportanceEvaluator``, which takes one set of
trials at a time and seconds for a bootstrap; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial
from scipy.sparse import csr_array
from scipy.special import ndtr

from orchestrator.spec.choices import distinct, place_of

Array = NDArray[np.float64]

_QUANTILE = 0.1  # the good trials; Optuna's default, as all that follows
_CELLS = 50
_LEAST_IN_REGIME = 2
_TINY = 1e-12
_LEAST_BANDWIDTH = 0.5 / 1.64


def importances(
    trials: Sequence[FrozenTrial], names: Sequence[str], losses: Array, weights: Array
) -> Array:
    """The importance of each parameter under each weighting.

    Args:
        trials: complete trials.
        names: the parameters.
        losses: a finite number a trial, the lower the better.
        weights: how often each trial counts, a row for each weighting.

    Returns:
        Shares of 1, a row for each weighting; all zero where no parameter tells.
    """
    total = weights.sum(axis=1)
    good = weights * _are_good(losses, weights)
    count = good.sum(axis=1)
    columns, good_columns = np.ascontiguousarray(weights.T), np.ascontiguousarray(good.T)
    found = np.zeros((len(weights), len(names)))
    for column, name in enumerate(names):
        for distribution, members in _regimes(trials, name):
            cells, size = _cells(distribution, [trials[at].params[name] for at in members])
            shape = size, len(trials)
            into_cells = csr_array((np.ones(len(members)), (cells, members)), shape=shape)
            counts, good_counts = (into_cells @ columns).T, (into_cells @ good_columns).T
            # Weighted by how much of the good and of all trials are in this regime.
            inside, inside_good = counts.sum(axis=1), good_counts.sum(axis=1)
            told = (inside >= _LEAST_IN_REGIME) & (inside_good > 0)
            if not told.any():
                continue
            density = _categorical if isinstance(distribution, CategoricalDistribution) else _kernel
            of_good = density(good_counts[told]) + _TINY
            of_all = density(counts[told]) + _TINY
            divergence = (of_all * (of_good / of_all - 1) ** 2).sum(axis=1)
            share = (inside_good[told] / count[told]) ** 2 / (inside[told] / total[told])
            found[told, column] += share * divergence
    whole = found.sum(axis=1, keepdims=True)
    shares: Array = np.divide(found, whole, out=np.zeros_like(found), where=whole > 0)
    return shares


def _are_good(losses: Array, weights: Array) -> NDArray[np.bool_]:
    """The trials no worse than the quantile, ties included."""
    order = np.argsort(losses, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    wanted = np.ceil(_QUANTILE * reached[:, -1:])
    cutoff = losses[order][np.argmax(reached >= wanted, axis=1)]
    return np.asarray(losses[None, :] <= cutoff[:, None])


def _regimes(trials: Sequence[FrozenTrial], name: str) -> list[tuple[BaseDistribution, list[int]]]:
    """The trials by the parameter's domain; where it is inactive or fixed it tells nothing."""
    found: dict[str, tuple[BaseDistribution, list[int]]] = {}
    words: dict[int, str] = {}  # choices that are lists have no hash; most trials share a domain
    for place, trial in enumerate(trials):
        distribution = trial.distributions.get(name)
        if distribution is not None:
            key = words.get(id(distribution)) or words.setdefault(
                id(distribution), repr(distribution)
            )
            found.setdefault(key, (distribution, []))[1].append(place)
    return [(each, members) for each, members in found.values() if not each.single()]


def _cells(distribution: BaseDistribution, values: list[object]) -> tuple[NDArray[np.int_], int]:
    """In which cell of the domain's grid each value lies, and how many cells there are."""
    if isinstance(distribution, CategoricalDistribution):
        return np.array(_places(distribution, values)), len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, cells = float(distribution.low), float(distribution.high), _CELLS
    # One that was queued or imported may lie outside: it counts with the nearest.
    numbers = np.clip(np.array(values, dtype=np.float64), low, high)
    steps = math.inf if distribution.step is None else (high - low) / distribution.step
    if isinstance(distribution, IntDistribution) and distribution.log:
        cells = min(math.ceil(math.log2(high - low + 1)) + 1, _CELLS)
    elif steps < _CELLS:
        cells = min(round(steps) + 1, _CELLS)
    if distribution.log:
        low, high, numbers = math.log(low), math.log(high), np.log(numbers)
    if math.isinf(high - low):
        low, high, numbers = low / 2, high / 2, numbers / 2
    at = np.ceil((numbers - low) / ((high - low) / (cells - 1)) - 0.5).astype(int)
    return np.clip(at, 0, cells - 1), cells


def _places(distribution: CategoricalDistribution, values: list[object]) -> list[int]:
    # Most values are a choice as it is; `place_of` compares with each of them.
    known: dict[tuple[type, object], int] = {
        (type(each), distinct(each)): at for at, each in enumerate(distribution.choices)
    }
    found = (known.get((type(value), distinct(value))) for value in values)
    return [
        place_of(distribution, value) if place is None else place
        for place, value in zip(found, values, strict=True)
    ]


def _categorical(counts: Array) -> Array:
    """The smoothed shares of the choices, a row for each row of counts."""
    size = counts.shape[1]
    kernels = (counts > 0).sum(axis=1, keepdims=True) + 1.0
    total = counts.sum(axis=1, keepdims=True)
    share, prior = counts / (total + 1), 1 / (total + 1)
    own = (share + share.sum(axis=1, keepdims=True) / kernels) / (1 + size / kernels)
    return np.asarray(own + prior / size)


def _kernel(counts: Array) -> Array:
    """A Parzen estimate on the grid with Scott's bandwidth, a row for each row of counts."""
    size = counts.shape[1]
    at = np.arange(size, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = counts @ at / total
    deviation = np.sqrt((counts * (at - mean[:, None]) ** 2).sum(axis=1) / np.maximum(1, total - 1))
    reached = np.cumsum(counts, axis=1)
    first = np.argmax(reached >= np.maximum(total // 4, 1)[:, None], axis=1)
    third = np.argmax(reached > (total * 3 // 4)[:, None], axis=1)
    bandwidth = 1.059 * np.minimum((third - first) / 1.34, deviation) * total**-0.2
    bandwidth = np.maximum(bandwidth, _LEAST_BANDWIDTH)
    edges = np.arange(size + 1) - 0.5

    def spread(centres: Array, width: Array) -> Array:
        heights = ndtr((edges - centres[..., None]) / width[..., None])
        parts: Array = np.diff(heights, axis=-1) / (heights[..., -1:] - heights[..., :1])
        return parts

    own = spread(
        np.broadcast_to(at, counts.shape), np.broadcast_to(bandwidth[:, None], counts.shape)
    )
    prior = spread(np.array((size - 1) / 2), np.array(float(size)))
    share = counts / (total + 1)[:, None]
    return np.asarray(np.einsum("bk,bkg->bg", share, own) + prior / (total + 1)[:, None])
