"""Importance: which parameters decided the value, and whether that can be said.

Estimated by PED-ANOVA with a bootstrap (ped_anova.py), and once more by fANOVA: F. Hutter et al.,
"An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014, as Optuna has it. A
parameter is named only where both agree and its interval lies above all others. In a full grid
nothing is estimated: the shares are exact, by analysis of variance.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel

from orchestrator.report.numbers import counted, percent, scaled
from orchestrator.report.section import section
from orchestrator.search.space import count, values_of
from orchestrator.spec.choices import distinct
from orchestrator.spec.model import Direction

if TYPE_CHECKING:
    from orchestrator.report.ped_anova import Array

_T = TypeVar("_T")

_LEAST_TRIALS, _LEAST_PER_PARAMETER = 20, 4
_DRAWS = 200
_INTERVAL = (2.5, 97.5)  # percent
# The time of fANOVA grows with their square; more change little.
_MOST_TRIALS_OF_FANOVA = 200
_Cell = tuple[object, ...]  # a value for each parameter


class ImportanceClaim(BaseModel):
    """What is known of the parameters' importance.

    Attributes:
        parameter: the one that mattered most; None where that cannot be said.
        reason: why it cannot be said; None where it can, or where nothing is to be said.
        method: ``"PED-ANOVA"``, or in a full grid ``"analysis of variance"``; None without shares.
        trials: how many complete trials the shares rest on.
        intervals: the 95 % interval of each share; of exact shares none.
        together: in a full grid, the share that only combinations of parameters explain, or noise.
    """

    parameter: str | None = None
    reason: str | None = None
    method: str | None = None
    trials: int = 0
    intervals: dict[str, tuple[float, float]] = {}
    together: float | None = None


@dataclass(frozen=True)
class Importances:
    """The shares of 1 by each method, the largest first, and what may be claimed of them.

    Attributes:
        fanova: None where it was not needed and not asked for.
    """

    shares: dict[str, float]
    fanova: dict[str, float] | None
    claim: ImportanceClaim


def assess(
    trials: Sequence[FrozenTrial],
    maximize: bool,
    seed: int,
    thorough: bool = False,
) -> Importances:
    """Work out the importances of a study of one metric.

    Args:
        trials: all of its trials.
        maximize: the direction.
        seed: of the bootstrap.
        thorough: by fANOVA too where no claim depends on it.
    """
    complete = [t for t in trials if t.state == TrialState.COMPLETE and _is_finite(t)]
    values = np.array([trial.value for trial in complete], dtype=np.float64)
    names = _varied(complete)
    if not names or len(set(values.tolist())) < 2:
        return Importances({}, {} if thorough else None, ImportanceClaim(trials=len(complete)))
    exact = _decompose(complete, values.tolist(), names)
    if exact is not None:
        claim = _exact_claim(exact.shares, exact.together, len(complete))
        return Importances(_rounded(exact.shares), {} if thorough else None, claim)
    least = max(_LEAST_TRIALS, _LEAST_PER_PARAMETER * len(names))
    if len(complete) < least:
        reason = (
            f"{counted(len(complete), 'complete trial')} cannot say which parameter mattered; "
            f"{least} may"
        )
        claim = ImportanceClaim(reason=reason if len(names) > 1 else None, trials=len(complete))
        return Importances({}, {} if thorough else None, claim)
    losses = -values if maximize else values
    shares, intervals = _estimate(complete, names, losses, seed)
    leader = _leader(shares, intervals) if len(names) > 1 else None
    fanova = None
    if thorough or leader is not None:
        fanova = _fanova(_sample(complete, _MOST_TRIALS_OF_FANOVA), maximize, names)
    claim = ImportanceClaim(
        parameter=leader if fanova and next(iter(fanova)) == leader else None,
        reason=_doubt(leader, fanova, len(names)),
        method="PED-ANOVA",
        trials=len(complete),
        intervals=intervals,
    )
    return Importances(shares, fanova, claim)


def _doubt(leader: str | None, fanova: dict[str, float] | None, count: int) -> str | None:
    if count < 2:
        return None
    if leader is None:
        return "no parameter clearly mattered most: the intervals of their importance overlap"
    if not fanova:
        return "PED-ANOVA and fANOVA together name no parameter: fANOVA cannot tell of these trials"
    if next(iter(fanova)) != leader:
        return "PED-ANOVA and fANOVA disagree on which parameter mattered most"
    return None


def _exact_claim(shares: dict[str, float], together: float, trials: int) -> ImportanceClaim:
    first, second = [*shares.values(), 0.0, 0.0][:2]
    parameter, reason = next(iter(shares), None), None
    # Equal but for rounding, neither is the first.
    if parameter is not None and (math.isclose(first, second) or first <= together):
        parameter = None
        reason = "no parameter mattered most by itself"
        if together > first:
            reason = f"{reason}: combinations explain {percent(together)} of the variance"
    return ImportanceClaim(
        parameter=parameter,
        reason=reason,
        method="analysis of variance",
        trials=trials,
        together=round(together, 4),
    )


def _estimate(
    complete: Sequence[FrozenTrial], names: Sequence[str], losses: Array, seed: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The shares from all trials, the largest first, and their intervals."""
    from orchestrator.report import (
        ped_anova,  # it loads SciPy: half a second
    )

    whole = ped_anova.importances(complete, names, losses, np.ones((1, len(complete))))[0]
    count = len(complete)
    random = np.random.default_rng(seed)
    draws = random.multinomial(count, np.full(count, 1 / count), size=_DRAWS).astype(np.float64)
    drawn = ped_anova.importances(complete, names, losses, draws)
    low, high = np.percentile(drawn, _INTERVAL, axis=0)
    order = sorted(range(len(names)), key=lambda at: -whole[at])
    shares = {names[at]: float(whole[at]) for at in order}
    # A percentile interval may miss the estimate itself, as small shares are drawn too high.
    intervals = {
        names[at]: (
            round(float(min(low[at], whole[at])), 4),
            round(float(max(high[at], whole[at])), 4),
        )
        for at in order
    }
    return _rounded(shares), intervals


def _leader(shares: dict[str, float], intervals: dict[str, tuple[float, float]]) -> str | None:
    """The parameter whose interval lies above all others."""
    first = next(iter(shares))
    others = [high for name, (_, high) in intervals.items() if name != first]
    return first if intervals[first][0] > max(others) else None


def _fanova(
    chosen: Sequence[FrozenTrial], maximize: bool, names: Container[str]
) -> dict[str, float]:
    """Shares of 1, the largest first; empty where the trials have too little in common."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=16, max_depth=16, seed=0)
    # Its forests square the values.
    parts, _ = scaled([trial.value or 0.0 for trial in chosen])
    plain = [_plain(trial, value) for trial, value in zip(chosen, parts.tolist(), strict=True)]
    sample = TrialSample(plain, "maximize" if maximize else "minimize")

    def evaluate() -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.importance.get_param_importances(sample, evaluator=evaluator)

    # It takes neither choices that are lists nor the largest floats.
    found = section("fANOVA", evaluate, lambda line: {})
    return _rounded({k: float(v) for k, v in found.items() if k in names and math.isfinite(v)})


def _plain(trial: FrozenTrial, value: float) -> FrozenTrial:
    """The trial with that value, and every parameter within its domain."""
    seen = copy.copy(trial)
    seen.values = [value]
    seen.params = {
        name: min(max(each, domain.low), domain.high)
        if isinstance(domain := trial.distributions[name], IntDistribution | FloatDistribution)
        else each
        for name, each in trial.params.items()
    }
    return seen


def _sample(items: Sequence[_T], most: int) -> list[_T]:
    """At most this many of them, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).astype(int)
    return [items[place] for place in places]


def _varied(trials: Sequence[FrozenTrial]) -> list[str]:
    """The parameters that had more than one value, in their order."""
    values: dict[str, set[object]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(distinct(value))
    return [name for name, found in values.items() if len(found) > 1]


def _is_finite(trial: FrozenTrial) -> bool:
    return trial.value is not None and math.isfinite(trial.value)


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


class TrialSample(optuna.Study):
    """A study of chosen trials, for reading only.

    It has no storage: a study that Optuna makes announces itself in Optuna's log.

    Args:
        trials: the trials.
        direction: of the value.
    """

    def __init__(self, trials: Sequence[FrozenTrial], direction: Direction) -> None:
        self._chosen = trials
        self._toward = StudyDirection[direction.upper()]

    @property
    def directions(self) -> list[StudyDirection]:
        return [self._toward]

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._chosen if states is None or trial.state in states]


@dataclass(frozen=True)
class _Decomposition:
    """The variance of the cells' values in parts.

    Attributes:
        shares: of each parameter by itself, the largest first.
        together: what only combinations of parameters explain, or noise.
    """

    shares: dict[str, float]
    together: float


def _decompose(
    trials: Sequence[FrozenTrial], values: Sequence[float], names: Sequence[str]
) -> _Decomposition | None:
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
        return _Decomposition({}, 0.0)
    shares = {name: _main_effect(means, place) / total for place, name in enumerate(names)}
    ordered = sorted(shares.items(), key=lambda each: -each[1])
    return _Decomposition(dict(ordered), max(0.0, 1 - sum(shares.values())))


def _cells(
    trials: Sequence[FrozenTrial], values: Sequence[float], names: Sequence[str]
) -> dict[_Cell, list[float]] | None:
    """The values by cell; None where a cell is missing or a parameter is not finite."""
    if len(names) < 2 or not all(name in trial.params for trial in trials for name in names):
        return None
    sizes = [_size(trials[0], name) for name in names]
    wanted = math.prod(size for size in sizes if size is not None)
    if None in sizes or wanted > len(trials):
        return None
    cells: dict[_Cell, list[float]] = {}
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


def _main_effect(means: Mapping[_Cell, float], place: int) -> float:
    """The variance of the means over all cells with the same value of one parameter."""
    levels: dict[object, list[float]] = {}
    for cell, mean in means.items():
        levels.setdefault(cell[place], []).append(mean)
    return float(np.var([np.mean(level) for level in levels.values()]))
