"""A full grid: what each parameter decided there, exactly, by analysis of variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from orchestrator.report.numbers import scaled
from orchestrator.search.space import count, values_of
from orchestrator.spec.choices import distinct

Cell = tuple[object, ...]  # a value for each parameter


@dataclass(frozen=True)
class Decomposition:
    """The variance of the cells' values in parts.

    Attributes:
        shares: of each parameter by itself, the largest first.
        together: what only combinations of parameters explain, or noise.
    """

    shares: dict[str, float]
    together: float


def decompose(
    trials: Sequence[FrozenTrial], values: Sequence[float], names: Sequence[str]
) -> Decomposition | None:
    """The main effects' shares of the variance; None where the trials are not a full grid.

    A cell that was run more than once counts once, with its mean.

    Args:
        trials: complete trials.
        values: theirs, finite.
        names: the parameters that had more than one value.
    """
    parts, _ = scaled(values)  # shares of a variance do not depend on its unit
    cells = _cells(trials, parts.tolist(), names)
    if cells is None:
        return None
    means = {cell: float(np.mean(found)) for cell, found in cells.items()}
    total = float(np.var(list(means.values())))
    if total == 0:
        return Decomposition({}, 0.0)
    shares = {name: _main_effect(means, place) / total for place, name in enumerate(names)}
    ordered = sorted(shares.items(), key=lambda each: -each[1])
    return Decomposition(dict(ordered), max(0.0, 1 - sum(shares.values())))


def _cells(
    trials: Sequence[FrozenTrial], values: Sequence[float], names: Sequence[str]
) -> dict[Cell, list[float]] | None:
    """The values by cell; None where a cell is missing or a parameter is not finite."""
    if len(names) < 2 or not all(name in trial.params for trial in trials for name in names):
        return None
    sizes = [_size(trials[0], name) for name in names]
    wanted = math.prod(size for size in sizes if size is not None)
    if None in sizes or wanted > len(trials):
        return None
    cells: dict[Cell, list[float]] = {}
    for trial, value in zip(trials, values, strict=True):
        cells.setdefault(tuple(distinct(trial.params[name]) for name in names), []).append(value)
    tried = [len({cell[place] for cell in cells}) for place in range(len(names))]
    whole = len(cells) == math.prod(tried) and all(
        count >= size for count, size in zip(tried, sizes, strict=True) if size is not None
    )
    return cells if whole else None


def _size(trial: FrozenTrial, name: str) -> int | None:
    """How many values a parameter can take; None: it is continuous."""
    each = trial.distributions[name]
    # Counted, not listed: a range of whole numbers may have more values than memory holds.
    return len(values_of(name, each)) if isinstance(each, CategoricalDistribution) else count(each)


def _main_effect(means: Mapping[Cell, float], place: int) -> float:
    """The variance of the means over all cells with the same value of one parameter."""
    levels: dict[object, list[float]] = {}
    for cell, mean in means.items():
        levels.setdefault(cell[place], []).append(mean)
    return float(np.var([np.mean(level) for level in levels.values()]))
