"""Any scikit-learn estimator on any (X, y), cross-validated as ``GridSearchCV`` does it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution

from orchestrator.errors import DataError
from orchestrator.training.base import Objective, Refit, Trial
from orchestrator.training.data import Array, DataFacts, held_out_of, sha256_of

Parts = tuple[Array, Array] | tuple[Array, Array, Array, Array]


class EstimatorObjective(Objective):
    """Subclass it, say which estimator, data and space, and run ``orch run module:Class``.

    Example::

        class Svm(EstimatorObjective):
            def estimator(self):
                return SVC()

            def data(self):
                return load_digits(return_X_y=True)

            def space(self):
                return {"C": FloatDistribution(0.01, 100, log=True)}

    A parameter's name is what the estimator's ``set_params`` takes, as ``svc__C`` in a pipeline.
    With ``--folds F`` the folds are scikit-learn's own for ``cv=F``; without, the last sixth of the
    examples (or ``data.validation`` of them) validates. Repeats set ``random_state``.
    """

    default_metric: ClassVar[str] = "score"
    trains_in_rounds: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = True
    model_suffix: ClassVar[str | None] = ".joblib"
    # A name of sklearn.metrics.get_scorer; None: the estimator's own score.
    scoring: ClassVar[str | None] = None

    @abstractmethod
    def estimator(self) -> Any:
        """A new estimator, not yet fitted."""

    @abstractmethod
    def data(self) -> Parts:
        """``X, y``, or ``X, y, X_test, y_test`` where a test set is to be had."""

    @abstractmethod
    def space(self) -> dict[str, BaseDistribution]: ...

    def known_metrics(self) -> Sequence[str]:
        """What it returns is one score, whatever it is called."""
        named = [self.scoring] if isinstance(self.scoring, str) else []
        return [self.default_metric, *named]

    def check(self) -> DataFacts:
        x, y = self._parts[:2]
        folds = self.settings.folds
        held_out = len(y) // folds if folds else self._held_out
        return DataFacts(
            name=type(self).__name__,
            sha256=sha256_of(*self._parts),
            train=len(y) - held_out,
            validation=held_out,
            test=len(self._parts[3]) if len(self._parts) == 4 else 0,
            shape=tuple(x.shape[1:]),
        )

    def steps(self) -> int:
        return len(self._splits)

    def __call__(self, trial: Trial) -> float:
        x, y = self._parts[:2]
        done, state = trial.restore() or (0, {})
        scores = [float(score) for score in state.get("scores", [])]
        for index in range(done, len(self._splits)):
            train, validation = self._splits[index]
            estimator = self._seeded(trial, index)
            estimator.fit(x[train], y[train])
            scores.append(float(self._scorer(estimator, x[validation], y[validation])))
            trial.report(scores[-1], index + 1)
            if index + 1 < len(self._splits) and trial.should_prune():
                raise optuna.TrialPruned
            trial.checkpoint(index + 1, lambda: {"scores": np.array(scores)})
        return float(np.mean(scores))

    def refit(self, trial: Trial) -> Refit:
        import joblib

        x, y = self._parts[:2]
        estimator = self._seeded(trial, 0)
        estimator.fit(x, y)
        test = {}
        if len(self._parts) == 4:
            test = {self.metrics[0]: float(self._scorer(estimator, *self._parts[2:]))}

        def save(path: Path) -> None:
            joblib.dump(estimator, path)

        return Refit(history={}, test=test, save=save)

    def _seeded(self, trial: Trial, index: int) -> Any:
        from sklearn.base import clone

        estimator = clone(self.estimator()).set_params(**trial.params)
        if "random_state" in estimator.get_params():
            seed = np.random.SeedSequence([trial.seed, index]).generate_state(1)[0]
            estimator.set_params(random_state=int(seed) % 2**31)
        return estimator

    @cached_property
    def _parts(self) -> tuple[Array, ...]:
        parts = tuple(np.asarray(part) for part in self.data())
        if len(parts) not in (2, 4):
            raise DataError(
                f"{type(self).__name__}.data returned {len(parts)} arrays; return X, y or "
                "X, y, X_test, y_test"
            )
        if len(parts[0]) != len(parts[1]):
            raise DataError(
                f"{type(self).__name__}.data returned {len(parts[0])} examples and "
                f"{len(parts[1])} labels"
            )
        return parts

    @property
    def _held_out(self) -> int:
        return held_out_of(len(self._parts[1]), self.settings.validation, "examples")

    @cached_property
    def _splits(self) -> Sequence[tuple[Array, Array]]:
        from sklearn.base import is_classifier
        from sklearn.model_selection import check_cv

        x, y = self._parts[:2]
        folds = self.settings.folds
        if not folds:
            cut = len(y) - self._held_out
            splits = [(np.arange(cut), np.arange(cut, len(y)))]
        else:
            chosen = check_cv(folds, y, classifier=is_classifier(self.estimator()))
            splits = list(chosen.split(x, y))
        return splits * self.settings.repeats

    @cached_property
    def _scorer(self) -> Any:
        from sklearn.metrics import check_scoring

        return check_scoring(self.estimator(), scoring=self.scoring)
