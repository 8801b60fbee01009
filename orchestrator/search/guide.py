"""Guide: what an older study's model expects of a new study's configurations.

The older study may have been about other data, another model or a part of this space. So it counts
as far as it agrees with the new one's own trials: its expected values are one more function of a
configuration in the covariance of the new model (``gaussian_process.py``), with a learned variance.
That is the autoregressive model of Kennedy and O'Hagan ("Predicting the output from a complex
computer code when fast approximations are available", 2000); Tighineanu et al. ("Transfer learning
with Gaussian processes for Bayesian optimization", 2022) compare such models.
"""

from __future__ import annotations

import numpy as np

from orchestrator.search.encoded_space import Array, EncodedSpace
from orchestrator.search.gaussian_process import GaussianProcess, Kernel, Warped
from orchestrator.search.older_trials import OlderTrials

_LEAST_TRIALS = 3  # that a model needs
_FLAT = 1e-6  # a model that varies less expects the same of every configuration


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
