"""What ``benchmarks.pruning`` searches: recorded learning curves, and ones that are made up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import RandomSampler

from benchmarks.learning_curves import Array, LearningCurves
from benchmarks.problems import problem
from orchestrator.base.optuna_internals import storage_of
from orchestrator.search.encoded_space import EncodedSpace

FOLDER = Path(__file__).parent / "curves"
MADE_UP_EPOCHS = 27


class Training(NamedTuple):
    """What one trial goes through.

    Attributes:
        name: of its configuration.
        curve: what it reports after each epoch, the larger the better.
        seconds: how long an epoch takes.
    """

    name: str
    curve: Array
    seconds: float


class Recorded:
    """A search among recorded configurations.

    A trial has the one that is nearest to what the sampler drew, of those that no trial has had;
    once all have been tried, of all again.
    """

    def __init__(self, curves: LearningCurves, seed: int) -> None:
        self.space = curves.space
        self.epochs = curves.values.shape[2]
        self.best = curves.best
        self._curves = curves
        self._encoded = EncodedSpace(dict(curves.space))
        self._rows = np.array([self._encoded.encode(each) for each in curves.configurations])
        self._is_left = np.ones(len(self._rows), dtype=bool)
        self._rng = np.random.default_rng(seed)
        self._is_unordered = np.array([_is_unordered(each) for each in curves.space.values()])

    def draw(self, study: optuna.Study) -> tuple[optuna.Trial, Training]:
        """Ask the study's sampler."""
        trial = study.ask(dict(self.space))
        place = self._nearest(trial.params)
        # What it tried in fact is what the sampler may learn from.
        for name, value in self._curves.configurations[place].items():
            internal = self.space[name].to_internal_repr(value)
            storage_of(study).set_trial_param(trial._trial_id, name, internal, self.space[name])
        return trial, self._training(place)

    def train(self, configuration: Mapping[str, Any]) -> Training:
        """The training for what another tool drew."""
        return self._training(self._nearest(configuration))

    def targets(self, shares: Sequence[float]) -> list[float]:
        """The final values that these shares of the configurations have at least."""
        finals = self._curves.values[:, :, -1].mean(axis=1)
        return [float(np.quantile(finals, 1 - share)) for share in shares]

    def _nearest(self, configuration: Mapping[str, Any]) -> int:
        if not self._is_left.any():
            self._is_left[:] = True
        row = self._encoded.encode(dict(configuration))
        apart = np.abs(self._rows - row)
        apart[:, self._is_unordered] = apart[:, self._is_unordered] > 0
        place = int(np.where(self._is_left, apart.sum(axis=1), np.inf).argmin())
        self._is_left[place] = False
        return place

    def _training(self, place: int) -> Training:
        seed = int(self._rng.integers(self._curves.values.shape[1]))
        seconds = float(self._curves.seconds[place, seed])
        return Training(str(place), self._curves.values[place, seed], seconds)


class MadeUp:
    """A problem of ``benchmarks.problems``, whose values are reached along made-up curves.

    Each configuration starts some way above its value, and comes down with a speed of its own, both
    of which follow from nothing but its name.
    """

    epochs = MADE_UP_EPOCHS
    best = 0.0  # as a regret, the larger the better

    def __init__(self, name: str, seed: int, kind: str) -> None:
        self._name, self._kind = name, kind
        self._problem = problem(name)
        self._rng = np.random.default_rng(10_000 + seed)
        self._spread = _spread(name)

    def draw(self, study: optuna.Study) -> tuple[optuna.Trial, Training]:
        """Ask the study's sampler."""
        trial = study.ask()
        point = self._problem.suggest(trial)
        outcome = self._problem.measure(point, self._rng, False)
        height, speed = _two_shares(repr(point))
        left = np.arange(1, self.epochs + 1) / self.epochs
        if self._kind == "slow":  # powers: most is gained at first, by some more than by others
            power = 0.3 + speed
            above = (0.5 + height) * (left**-power - 1) / (self.epochs**power - 1) * 6
        else:
            above = (0.3 + 1.7 * height) * (1 - np.sqrt(left))
        noise = 0.05 * self._rng.standard_normal(self.epochs)
        noise[-1] = 0.0
        curve = -(outcome.regret + self._spread * (above + noise))
        return trial, Training(repr(point), curve, outcome.seconds / self.epochs)


def _is_unordered(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, CategoricalDistribution) and not all(
        isinstance(each, int | float) for each in distribution.choices
    )


def _two_shares(name: str) -> tuple[float, float]:
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32, int.from_bytes(digest[4:8], "big") / 2**32


@cache
def _spread(name: str) -> float:
    """How far the best tenth of random configurations is from the middle."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    searched, rng = problem(name), np.random.default_rng(0)
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    regrets = [
        searched.measure(searched.suggest(study.ask()), rng, False).regret for _ in range(300)
    ]
    tenth, middle = np.quantile(regrets, [0.1, 0.5])
    return float(middle - tenth)


@cache
def _recorded(name: str) -> LearningCurves:
    return LearningCurves.read(FOLDER / f"{name}.npz")


def pruning_problem(name: str, seed: int) -> Recorded | MadeUp:
    """A problem by its name: ``mnist`` of a file, or ``hartmann6-root`` with made-up curves."""
    base, _, kind = name.rpartition("-")
    return MadeUp(base, seed, kind) if base else Recorded(_recorded(name), seed)
