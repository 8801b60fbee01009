"""What trials that were stopped early would have reached, by the curves of those that went on.

A curve is what a trial reports, step by step. The trials that went beyond a step tell how much is
gained from there to the end, and the median of them is expected of a trial that ended there. Those
that went on were stopped later, most of them, so the last steps are looked at first, and what is
expected of the longer curves counts for the shorter ones. So a search learns from all brackets and
rungs of Hyperband at once, as in

* Falkner et al., "BOHB: Robust and efficient hyperparameter optimization at scale" (ICML 2018),
  which models the highest rung that has enough trials;
* Klein et al., "Model-based asynchronous hyperparameter and neural architecture search" (2020,
  MOBSTER) and Li et al., "Hyper-Tune: Towards efficient hyper-parameter tuning at scale" (VLDB
  2022), which model all rungs;
* Rakotoarison et al., "In-context freeze-thaw Bayesian optimization" (ICML 2024, ifBO), which
  extrapolates the curves.

One number for each trial is less than they do, and all that a model of final values needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.encoded_space import Array

FAR = 1e300  # beyond it the distance between two values may be infinite


@dataclass(frozen=True)
class Curve:
    """What one trial reported, the lower the better.

    Attributes:
        losses: by step, in the order of the steps.
        final: that of a trial that is complete.
    """

    losses: dict[int, float]
    final: float | None

    @property
    def last_step(self) -> int:
        """The step that it came to."""
        return next(reversed(self.losses))


def curve_of(trial: FrozenTrial, maximize: bool) -> Curve | None:
    """A trial's curve; None where it has none, as after a failure or a last value that is NaN."""
    values = trial.intermediate_values
    is_complete = trial.state == TrialState.COMPLETE
    last = trial.value if is_complete else values.get(trial.last_step or 0)
    if last is None or not math.isfinite(last) or trial.state == TrialState.FAIL:
        return None
    losses = {step: _loss(values[step], maximize) for step in sorted(values)}
    return Curve(losses, _loss(last, maximize) if is_complete else None)


def _loss(value: float, maximize: bool) -> float:
    return (-1 if maximize else 1) * max(-FAR, min(value, FAR))


def expected_finals(curves: Sequence[Curve]) -> Array:
    """The final loss of each curve: its own where it is complete, else what is expected."""
    finals = np.array([np.nan if each.final is None else each.final for each in curves])
    ended: dict[int, list[int]] = {}
    for place, each in enumerate(curves):
        if each.final is None:
            ended.setdefault(each.last_step, []).append(place)
    for step in sorted(ended, reverse=True):
        gain = float(np.median(gains)) if len(gains := gains_from(step, curves, finals)) else 0.0
        for place in ended[step]:
            finals[place] = curves[place].losses[step] - gain
    return finals


def gains_from(step: int, curves: Sequence[Curve], finals: Array) -> Array:
    """How much each curve that goes beyond a step gains from there to its end.

    Args:
        step: that all of them have.
        curves: any curves.
        finals: the final loss of each, or what is expected; NaN where nothing is.
    """
    gains = [
        each.losses[step] - finals[place]
        for place, each in enumerate(curves)
        if step in each.losses and (each.final is not None or each.last_step > step)
    ]
    return np.array([each for each in gains if math.isfinite(each)])
