"""Cost: how long a trial of a configuration is expected to take.

The expected improvement divided by it is the improvement per second (Snoek et al., "Practical
Bayesian optimization of machine learning algorithms", 2012, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.encoded_space import Array, EncodedSpace
from orchestrator.search.gaussian_process import GaussianProcess, Kernel, Measured

SECONDS = "seconds"
COSTS = (SECONDS,)

_LEAST_TRIALS = 3  # that a model needs
_NEWEST_TRIALS = 200  # that it is of: a suggestion's time grows with the cube of their number
_LEAST_SECONDS = 1e-3
_EQUAL = 1e-6  # a model of logarithms that vary less expects the same of every configuration


class ExpectedSeconds:
    """The logarithm of the seconds that a trial of a configuration is expected to take.

    Trials differ by factors, so the logarithms are modelled, by the same kind of Gaussian process
    as the values. While too few trials have finished, every configuration costs the same.

    Args:
        space: the configurations.
        trials: of the study, with the times of the storage's clock.

    Raises:
        numpy.linalg.LinAlgError: the covariance matrix is singular.
    """

    def __init__(self, space: EncodedSpace, trials: Sequence[FrozenTrial]) -> None:
        self._model: GaussianProcess | None = None
        found = [(row, log) for row, log in _measured(space, trials) if row is not None]
        found = found[-_NEWEST_TRIALS:]
        logs = np.array([log for _, log in found])
        if len(found) < _LEAST_TRIALS or logs.std() < _EQUAL:
            return
        rows = np.array([row for row, _ in found])
        self._middle, self._spread = float(logs.mean()), float(logs.std())
        values, kernel = (logs - self._middle) / self._spread, Kernel(space)
        theta = kernel.fit(kernel.features(rows), Measured(values), [kernel.mean])
        self._model = GaussianProcess(kernel, theta, rows, values)

    def __call__(self, rows: Array) -> Array:
        if self._model is None:
            return np.zeros(len(rows))
        return self._middle + self._spread * self._model.predict(rows)[0]


def _measured(
    space: EncodedSpace, trials: Sequence[FrozenTrial]
) -> list[tuple[Array | None, float]]:
    """The row of each trial whose time is known, and the logarithm of its seconds."""
    steps = [len(each.intermediate_values) for each in trials if each.state == TrialState.COMPLETE]
    whole = median(steps) if steps else 0.0
    return [
        (_row(space, each), float(np.log(seconds)))
        for each in trials
        if (seconds := _whole_seconds(each, whole)) is not None
    ]


def _whole_seconds(trial: FrozenTrial, steps: float) -> float | None:
    """How long a trial took, or a pruned one would have taken to the end; None: that is not known.

    Args:
        trial: the trial.
        steps: which a complete one reports.
    """
    if trial.duration is None:
        return None
    seconds = max(trial.duration.total_seconds(), _LEAST_SECONDS)
    if trial.state == TrialState.COMPLETE:
        return seconds
    if trial.state == TrialState.PRUNED and steps and trial.intermediate_values:
        return seconds * max(steps / len(trial.intermediate_values), 1.0)
    return None


def _row(space: EncodedSpace, trial: FrozenTrial) -> Array | None:
    try:
        return space.encode(trial.params)
    except (ValueError, TypeError):  # of a parameter whose domain has changed since
        return None
