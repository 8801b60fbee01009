"""Knowledge: what is known of a search space before the study's own trials, as a model takes it.

A user names one value for some of the parameters. As in PriorBand (Mallik et al., "PriorBand:
Practical hyperparameter optimization in the age of deep learning", 2023), a number's prior is a
normal distribution around it, cut off at the bounds, with a quarter of the range as its standard
deviation; of choices, the named one is four times as likely as each other.

An older study may have been about other data, another model or a part of this space. So it counts
as far as it agrees with the new one's own trials: its expected values are one more function of a
configuration in the covariance of the new model (``gaussian_process.py``), with a learned variance.
That is the autoregressive model of Kennedy and O'Hagan ("Predicting the output from a complex
computer code when fast approximations are available", 2000); Tighineanu et al. ("Transfer learning
with Gaussian processes for Bayesian optimization", 2022) compare such models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from orchestrator.search.encoded_space import (
    Array,
    Categories,
    EncodedSpace,
    Grid,
    Range,
    code_within,
)
from orchestrator.search.gaussian_process import GaussianProcess, Kernel, Warped
from orchestrator.search.older_trials import OlderTrials

_SPREAD = 0.25
_TIMES_AS_LIKELY = 4.0

_LEAST_TRIALS = 3  # that a model needs
_FLAT = 1e-6  # a model that varies less expects the same of every configuration


class Prior:
    """How likely configurations of a space are, before any trial.

    Args:
        space: its configurations.
        values: the expected ones, by parameter; those of other spaces are left out.

    Raises:
        ValueError: a parameter cannot have its value.
    """

    def __init__(self, space: EncodedSpace, values: Mapping[str, Any]) -> None:
        self._space = space
        self._centres: dict[int, float] = {}
        for column, (name, each) in enumerate(zip(space.names, space.parameters, strict=True)):
            if name in values:
                try:
                    self._centres[column] = code_within(each, values[name])
                except ValueError as error:
                    raise ValueError(f"the prior of {name} cannot be {error}") from None

    def __bool__(self) -> bool:
        return bool(self._centres)

    def log_density(self, rows: Array) -> Array:
        """Of each configuration, less that of the expected one.

        A parameter that a configuration does not have counts as expected.
        """
        total = np.zeros(len(rows))
        for column, centre in self._centres.items():
            codes = rows[:, column]
            density = _log_density(self._space.parameters[column], centre, codes)
            total += np.where(np.isnan(codes), 0.0, density)
        return total

    def spread(self, unit: Array) -> Array:
        """Configurations for points of the unit cube, more of them where more are expected."""
        rows = self._space.spread(unit)
        for column, centre in self._centres.items():
            rows[:, column] = _quantile(self._space.parameters[column], centre, unit[:, column])
        return self._space.settle(rows)


def _log_density(parameter: Categories | Grid | Range, centre: float, codes: Array) -> Array:
    if isinstance(parameter, Categories):
        return np.where(codes == centre, 0.0, -np.log(_TIMES_AS_LIKELY))
    return np.asarray(-0.5 * ((codes - centre) / _SPREAD) ** 2)


def _quantile(parameter: Categories | Grid | Range, centre: float, unit: Array) -> Array:
    """The codes below which these shares of the prior lie."""
    if isinstance(parameter, Range):
        low, high = ndtr(-centre / _SPREAD), ndtr((1 - centre) / _SPREAD)
        return parameter.snap(centre + _SPREAD * ndtri(low + unit * (high - low)))
    if isinstance(parameter, Grid):
        listed = parameter.codes
    else:
        listed = np.arange(len(parameter.choices)).astype(float)
    weights = np.exp(_log_density(parameter, centre, listed))
    shares = np.cumsum(weights) / weights.sum()
    return np.asarray(listed[np.minimum(np.searchsorted(shares, unit), len(listed) - 1)])


class Guide:
    """The values that an older study's model expects, with mean 0 and variance 1 over its trials.

    Args:
        space: the new study's.
        older: the older study's trials.
    """

    def __init__(self, space: EncodedSpace, older: OlderTrials) -> None:
        rows, losses = older.within(space)
        self._shared = ~np.isnan(rows).all(axis=0)
        self._model: GaussianProcess | None = None
        if len(rows) < _LEAST_TRIALS:
            return
        kernel, target = Kernel(space), Warped(losses, losses)
        theta = kernel.fit(kernel.features(rows), target, [kernel.mean])
        values = target(theta[kernel.offset])[0]
        try:
            model = GaussianProcess(kernel, theta, rows, values)
        except np.linalg.LinAlgError:
            return
        expected = model.predict(rows)[0]
        self._middle, self._spread = float(expected.mean()), float(expected.std())
        if self._spread > _FLAT:
            self._model = model

    def __bool__(self) -> bool:
        return self._model is not None

    def __call__(self, rows: Array) -> Array:
        assert self._model is not None
        # What the older study did not have is in the middle, as its model has it.
        expected = self._model.predict(np.where(self._shared, rows, np.nan))[0]
        return np.asarray((expected - self._middle) / self._spread)
