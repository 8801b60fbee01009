"""A Gaussian process over a search space of numbers, categories and conditions.

The covariance of two configurations is the sum of three parts:

* a constant;
* an additive part: a few fixed functions of each parameter alone, with a learned variance for
  each (Duvenaud et al., "Additive Gaussian processes", 2011). Few trials show what each
  parameter does by itself;
* a Matérn 5/2 part with a length-scale for each parameter (Snoek et al., "Practical Bayesian
  optimization of machine learning algorithms", 2012): how parameters work together. The choices
  of a category are the corners of a simplex, all equally far apart unless learned weights of the
  choices say otherwise. Parameters with the same list of choices share the weights.

To the additive part may come guides, functions of whole configurations: what is expected of each
from elsewhere. Their variances are learned likewise, so one that does not agree counts little.

The parameter values of a kernel are those with the highest posterior density, found by L-BFGS with
exact gradients (Rasmussen and Williams, "Gaussian processes for machine learning", 2006, ch. 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtr

from orchestrator.search.encoded_space import Array, Categories, EncodedSpace

_SQRT_5 = math.sqrt(5.0)
_FREQUENCIES = np.arange(1, 4)  # of the cosines of the additive part
_LEAST_NOISE = 1e-5  # keeps the covariance matrix positive definite
_SINGULAR = 1e25  # the loss of kernel parameters whose matrix is not
_MOST_STEPS = 40  # of L-BFGS
_BOUND = 5.0  # prior standard deviations within which kernel parameters are sought

# The prior of each kernel parameter's logarithm: its mean and standard deviation.
_LENGTH_SCALE = (0.0, 1.0)
_CHOICE_WEIGHT = (0.0, 0.5)
_ADDITIVE_VARIANCE = (-1.5, 1.0)
_MATERN_VARIANCE = (0.0, 1.0)
_GUIDE_VARIANCE = (0.0, 1.5)
_NOISE_VARIANCE = (-5.0, 2.0)
_OFFSET = (math.log(0.3), 1.0)

# A loss above this many times the median's distance to the best is as bad as any other.
_WORST = 5.0


class Target(Protocol):
    """What a process is fitted to: values that may depend on a kernel parameter."""

    def __call__(self, log_offset: float) -> tuple[Array, Array, float, float]:
        """The values, their derivative, the log Jacobian and its derivative."""


class Measured:
    """Values as they are; see :class:`Target`."""

    def __init__(self, values: Array) -> None:
        self._values = values

    def __call__(self, log_offset: float) -> tuple[Array, Array, float, float]:
        return self._values, np.zeros_like(self._values), 0.0, 0.0


class Warped:
    """Losses on a scale between linear and logarithmic, which is learned with the kernel.

    A loss becomes ``log(u + offset)``, standardised, where ``u`` is its distance to the best one,
    with the median's as the unit. A small offset spreads the best trials apart, as tables of
    accuracies need it; a large one leaves smooth functions as they are. The offset maximises the
    likelihood of the losses, through the Jacobian, as in Snelson et al., "Warped Gaussian
    processes", 2004. Losses far behind are cut off: how bad they are says little about the best.

    Args:
        losses: of the trials that are modelled, finite.
        reference: of all trials, for the unit.
    """

    def __init__(self, losses: Array, reference: Array) -> None:
        best = reference.min()
        distances = reference - best
        unit = float(np.median(distances)) or float(distances.mean()) or 1.0
        distance = np.maximum(losses - best, 0) / unit
        self._is_free = distance < _WORST
        self._distance = np.minimum(distance, _WORST)

    def __call__(self, log_offset: float) -> tuple[Array, Array, float, float]:
        offset = math.exp(log_offset)
        logs = np.log(self._distance + offset)
        slope = offset / (self._distance + offset)  # d logs / d log_offset
        spread = logs.std() + 1e-12
        values = (logs - logs.mean()) / spread
        shared = float((values * slope).mean() / spread)
        derivative = (slope - slope.mean()) / spread - values * shared
        free = self._is_free
        jacobian = float(-logs[free].sum() - free.sum() * math.log(spread))
        return values, derivative, jacobian, float(-slope[free].sum() - free.sum() * shared)


class Features(NamedTuple):
    """Configurations as the kernel needs them.

    Attributes:
        embedding: coordinates for the Matérn part, before they are scaled.
        additive: functions of one parameter each; a parameter's squares sum to 1 / parameters.
            Then the guides.
    """

    embedding: Array
    additive: Array


class Kernel:
    """The covariance, as a function of a vector of kernel parameters, all of them logarithms.

    The vector has the length-scales, the weights of choices, the variances of the additive part,
    the variance of the Matérn part, that of the noise, and the offset of :class:`Warped`. Whether a
    configuration has an optional parameter counts as a parameter of its own.

    Args:
        space: what it compares configurations of.
        guides: functions of configurations, each with values of about mean 0 and variance 1.
    """

    def __init__(
        self, space: EncodedSpace, guides: Sequence[Callable[[Array], Array]] = ()
    ) -> None:
        self._space, self._guides = space, guides
        self._groups = len(space.parameters) + len(space.optional)
        self._arrange()
        self._set_prior()

    def _arrange(self) -> None:
        """Say for each coordinate and function which kernel parameters it belongs to."""
        size = self._groups
        scale_of: list[int] = []
        weight_of: list[int] = []  # -1: the coordinate has no weight
        variance_of: list[int] = []
        weights: dict[tuple[str, ...], int] = {}  # where those of a list of choices begin
        for column, each in enumerate(self._space.parameters):
            if not isinstance(each, Categories):
                scale_of += [column]
                weight_of += [-1]
                variance_of += [column] * len(_FREQUENCIES)
                continue
            choices = len(each.choices)
            first = -1
            if choices > 2:  # of two choices only the distance counts: the length-scale
                key = tuple(map(repr, each.choices))
                first = weights.setdefault(key, size)
                size = max(size, first + choices)
            scale_of += [column] * choices
            weight_of += [first + place if first >= 0 else -1 for place in range(choices)]
            variance_of += [column] * choices
        flags = range(len(self._space.parameters), self._groups)
        scale_of += flags
        weight_of += [-1] * len(flags)
        variance_of += flags
        terms = self._groups + len(self._guides)
        variance_of += range(self._groups, terms)
        self._scale_of, self._weight_of = np.array(scale_of), np.array(weight_of)
        self._variance_of = np.array(variance_of)
        self._is_weighted = self._weight_of >= 0
        self._weights = slice(self._groups, size)
        self._variances = slice(size, size + terms)
        self._guide_variances = slice(size + self._groups, size + terms)
        self._matern, self._noise, self.offset = range(size + terms, size + terms + 3)

    def _set_prior(self) -> None:
        size = self.offset + 1
        self.mean, self.deviation = np.zeros(size), np.ones(size)
        for place, prior in (
            (slice(self._groups), _LENGTH_SCALE),
            (self._weights, _CHOICE_WEIGHT),
            (self._variances, _ADDITIVE_VARIANCE),
            (self._guide_variances, _GUIDE_VARIANCE),
            (self._matern, _MATERN_VARIANCE),
            (self._noise, _NOISE_VARIANCE),
            (self.offset, _OFFSET),
        ):
            self.mean[place], self.deviation[place] = prior

    def features(self, rows: Array) -> Features:
        """Prepare configurations; a parameter that one does not have is in the middle."""
        embedding, additive = [], []
        for column, each in enumerate(self._space.parameters):
            codes = rows[:, column][:, None]
            if isinstance(each, Categories):
                corner = (codes == np.arange(len(each.choices))).astype(float)
                embedding.append(corner * math.sqrt(0.5))  # corners are 1 apart
                additive.append(corner)
                continue
            codes = np.where(np.isnan(codes), 0.5, codes)
            waves = np.cos(math.pi * codes * _FREQUENCIES) / _FREQUENCIES
            embedding.append(codes)
            additive.append(waves / np.sqrt((waves * waves).sum(axis=1, keepdims=True)))
        for column in self._space.optional:
            flag = (~np.isnan(rows[:, column])).astype(float)[:, None]
            embedding.append(flag)
            additive.append(2 * flag - 1)
        parameters = np.concatenate(additive, axis=1) / math.sqrt(self._groups)
        guides = [guide(rows)[:, None] for guide in self._guides]
        return Features(
            np.concatenate(embedding, axis=1), np.concatenate([parameters, *guides], axis=1)
        )

    def covariance(self, theta: Array, left: Features, right: Features) -> Array:
        """The covariance of each configuration with each other one, without noise."""
        scale = self._scale(theta)
        _, correlation = _matern(*_distances(left.embedding * scale, right.embedding * scale))
        additive = (left.additive * self._additive_variances(theta)) @ right.additive.T
        return np.asarray(1.0 + additive + math.exp(theta[self._matern]) * correlation)

    def variance(self, theta: Array, each: Features) -> Array:
        """The variance of each configuration, without noise."""
        additive = each.additive**2 @ self._additive_variances(theta)
        return np.asarray(1.0 + additive + math.exp(theta[self._matern]))

    def noise(self, theta: Array) -> float:
        """The variance of two trainings of one configuration."""
        return _LEAST_NOISE + math.exp(theta[self._noise])

    def _scale(self, theta: Array) -> Array:
        logs = -theta[self._scale_of]
        logs[self._is_weighted] += theta[self._weight_of[self._is_weighted]]
        return np.asarray(np.exp(logs))

    def _additive_variances(self, theta: Array) -> Array:
        return np.asarray(np.exp(theta[self._variances])[self._variance_of])

    def fit(self, features: Features, target: Target, starts: list[Array]) -> Array:
        """The kernel parameters with the highest posterior density found from these starts."""
        loss = _Posterior(self, features, target)
        low = self.mean - _BOUND * self.deviation
        high = self.mean + _BOUND * self.deviation
        found = [
            minimize(
                loss,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=list(zip(low, high, strict=True)),
                options={"maxiter": _MOST_STEPS},
            )
            for start in starts
        ]
        return np.asarray(min(found, key=lambda each: each.fun).x)


def _distances(left: Array, right: Array) -> tuple[Array, Array]:
    """Squared distances, and sqrt(5) times the distances."""
    squares = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1)[None]
    squares = np.maximum(squares - 2 * left @ right.T, 0)
    return squares, _SQRT_5 * np.sqrt(squares)


def _matern(squares: Array, scaled: Array) -> tuple[Array, Array]:
    """The exponential factor, and the Matérn 5/2 correlation."""
    decay = np.exp(-scaled)
    return decay, (1 + scaled + squares * (5 / 3)) * decay


class _Posterior:
    """The negative log posterior density of kernel parameters, and its gradient."""

    def __init__(self, kernel: Kernel, features: Features, target: Target) -> None:
        self._kernel, self._target = kernel, target
        self._embedding = features.embedding
        self._parts = np.stack(
            [
                (part @ part.T).ravel()
                for group in range(kernel._groups + len(kernel._guides))
                for part in (features.additive[:, kernel._variance_of == group],)
            ]
        )

    def __call__(self, theta: Array) -> tuple[float, Array]:
        k, size = self._kernel, len(self._embedding)
        values, values_by_offset, jacobian, jacobian_by_offset = self._target(theta[k.offset])
        scaled = self._embedding * k._scale(theta)
        squares, distances = _distances(scaled, scaled)
        decay, matern = _matern(squares, distances)
        amplitude = math.exp(theta[k._matern])
        variances, noise = np.exp(theta[k._variances]), math.exp(theta[k._noise])
        matrix = 1.0 + amplitude * matern + (variances @ self._parts).reshape(size, size)
        matrix[np.diag_indices(size)] += noise + _LEAST_NOISE
        factor, failed = lapack.dpotrf(matrix, lower=1)
        if failed:
            return _SINGULAR, np.zeros_like(theta)
        weights = lapack.dpotrs(factor, values, lower=1)[0]
        lower = np.tril(lapack.dpotri(factor, lower=1)[0])
        inverse = lower + np.tril(lower, -1).T
        by_matrix = 0.5 * (inverse - np.outer(weights, weights))

        gradient = np.zeros_like(theta)
        gradient[k._matern] = amplitude * (by_matrix * matern).sum()
        gradient[k._noise] = noise * np.trace(by_matrix)
        gradient[k._variances] = variances * (self._parts @ by_matrix.ravel())
        gradient[k.offset] = weights @ values_by_offset - jacobian_by_offset
        by_square = by_matrix * (amplitude * decay) * (1 + distances) * (-5 / 6)
        by_scale = 4 * (
            (scaled * scaled * by_square.sum(axis=1)[:, None]).sum(axis=0)
            - (scaled * (by_square @ scaled)).sum(axis=0)
        )
        np.add.at(gradient, k._scale_of, -by_scale)
        np.add.at(gradient, k._weight_of[k._is_weighted], by_scale[k._is_weighted])

        prior = (theta - k.mean) / k.deviation
        fit = 0.5 * values @ weights + np.log(np.diag(factor)).sum() - jacobian
        return float(fit + 0.5 * prior @ prior), gradient + prior / k.deviation


class GaussianProcess:
    """A kernel with its parameters, and what it was told.

    Args:
        kernel: compares configurations.
        theta: its parameters.
        rows: configurations.
        values: theirs.

    Raises:
        numpy.linalg.LinAlgError: the covariance matrix is singular.
    """

    def __init__(self, kernel: Kernel, theta: Array, rows: Array, values: Array) -> None:
        self._kernel, self._theta = kernel, theta
        self._rows, self._values = rows, values
        self._features = kernel.features(rows)
        self._noise = kernel.noise(theta)
        matrix = kernel.covariance(theta, self._features, self._features)
        matrix[np.diag_indices_from(matrix)] += self._noise
        self._factor, failed = lapack.dpotrf(matrix, lower=1)
        if failed:
            raise np.linalg.LinAlgError("the covariance matrix is singular")
        self._weights = lapack.dpotrs(self._factor, values, lower=1)[0]

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """The mean and the standard deviation of the value that a trial of each would report."""
        features = self._kernel.features(rows)
        across = self._kernel.covariance(self._theta, features, self._features)
        solved = lapack.dtrtrs(self._factor, across.T, lower=1)[0]
        variance = self._kernel.variance(self._theta, features) - (solved * solved).sum(axis=0)
        return across @ self._weights, np.sqrt(np.maximum(variance, 1e-12) + self._noise)

    def believe(self, rows: Array, hope: float = 0.0) -> tuple[GaussianProcess, Array]:
        """The process as if running trials had returned its mean: the kriging believer.

        So workers that ask at the same time are sent apart (Ginsbourger et al., "Kriging is
        well-suited to parallelize optimization", 2010).

        Args:
            rows: of the running trials.
            hope: by how many standard deviations they are better than the mean.

        Returns:
            The process, and the values that it has for the rows.
        """
        mean, deviation = self.predict(rows)
        values = mean - hope * deviation
        if not len(rows):
            return self, values
        every = np.concatenate([self._rows, rows])
        together = np.concatenate([self._values, values])
        return GaussianProcess(self._kernel, self._theta, every, together), values


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """The logarithm of how far a trial is expected to fall below the best value.

    The logarithm stays exact where the improvement itself would vanish (Ament et al., "Unexpected
    improvements to expected improvement", 2023). The deviation includes the noise, since the value
    that a trial reports is what is compared.
    """
    z = (best - mean) / deviation
    log_density = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    log_gain = np.empty_like(z)
    near = z > -1
    log_gain[near] = np.log(np.exp(log_density[near]) + z[near] * ndtr(z[near]))
    far = z[~near]
    ratio = np.maximum(1 + far * np.exp(log_ndtr(far) - log_density[~near]), 1e-300)
    tail = np.log(np.where(far < -30, 1 / (far * far), ratio))
    log_gain[~near] = log_density[~near] + tail
    return np.asarray(log_gain + np.log(deviation))


def log_probability_below(mean: Array, deviation: Array, bound: float) -> Array:
    """The logarithm of the probability that a value is at most the bound."""
    return np.asarray(log_ndtr((bound - mean) / deviation))
