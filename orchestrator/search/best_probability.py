"""BestProbabilityPruner: stop a trial that will hardly become the best.

What a trial would reach is extrapolated from the curves of the others (``extrapolation.py``): those
that went beyond its step have gained so much from there to their end, some more and some less. The
trial is stopped where a normal distribution of such a gain leaves it a small probability of being
better than the best of them. This is the rule of

* Domhan et al., "Speeding up automatic hyperparameter optimization of deep neural networks by
  extrapolation of learning curves" (IJCAI 2015),

whose curves are parametric ones, sampled for each trial; here the study's own trials stand for them
and no more than NumPy is needed.
"""

from __future__ import annotations

import math

import numpy as np
from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from orchestrator.search.extrapolation import Curve, curve_of, expected_finals, gains_from

# The deviation of gains that is expected before there are any, as a share of the gain, and the
# number of trials that it counts as much as.
_EXPECTED_SHARE, _EXPECTED_TRIALS = 0.5, 2.0


class BestProbabilityPruner(BasePruner):
    """Stops a trial whose probability of becoming the best is small.

    Example::

        orch run mnist --pruner auto --set pruner.threshold=0.02

    Args:
        threshold: the smallest probability with which a trial goes on.
        n_startup_trials: how many trials must have gone beyond a step, until it is decided there.
        n_warmup_steps: no trial is stopped at these steps.

    Raises:
        ValueError: one of them is impossible.
    """

    def __init__(
        self, *, threshold: float = 0.05, n_startup_trials: int = 2, n_warmup_steps: int = 0
    ) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be from 0 to below 1, not {threshold}")
        if n_startup_trials < 1:
            raise ValueError(f"n_startup_trials must be 1 or more, not {n_startup_trials}")
        if n_warmup_steps < 0:
            raise ValueError(f"n_warmup_steps must be 0 or more, not {n_warmup_steps}")
        self._threshold = threshold
        self._n_startup_trials = n_startup_trials
        self._n_warmup_steps = n_warmup_steps

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial after its last value."""
        step = trial.last_step
        if step is None or step <= self._n_warmup_steps:
            return False
        maximize = study.direction == StudyDirection.MAXIMIZE
        own = curve_of(trial, maximize)
        if own is None:
            return True  # its last value is not a number
        others = [
            curve
            for each in study.get_trials(deepcopy=False)
            if each.number != trial.number and (curve := curve_of(each, maximize))
        ]
        return self._probability(own.losses[step], others, step) < self._threshold

    def _probability(self, loss: float, others: list[Curve], step: int) -> float:
        """That a trial with this loss at a step becomes the best; 1 while that is not known."""
        finals = expected_finals(others)
        gains = gains_from(step, others, finals)
        if len(gains) < self._n_startup_trials:
            return 1.0
        gain = float(np.median(gains))
        expected = _EXPECTED_TRIALS * (_EXPECTED_SHARE * gain) ** 2
        squares = float(((gains - gain) ** 2).sum())
        deviation = math.sqrt((expected + squares) / (_EXPECTED_TRIALS + len(gains)))
        best = float(np.nanmin(finals))
        apart = loss - gain - best
        if deviation == 0.0:
            return float(apart <= 0)
        return 0.5 * math.erfc(apart / deviation / math.sqrt(2))
