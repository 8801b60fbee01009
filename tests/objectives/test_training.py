"""Real Keras trainings on real digits: reports, pruning, divergence, seeds."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import optuna
import pytest

from objectives.base import Settings
from objectives.digits import Digits
from objectives.errors import ObjectiveError

PARAMS: dict[str, Any] = {
    "activation": "relu", "units": 64, "units_2": 32, "units_3": 16, "units_4": 16,
    "dropout": 0.0, "learning_rate": 3e-3, "batch_size": 64,
}  # fmt: skip


class Notebook:
    """A trial that writes down what it is told."""

    number = 0

    def __init__(self, seed: int = 1, prune_at: int | None = None, **changes: Any) -> None:
        self.seed = seed
        self.params = {**PARAMS, **changes}
        self.reports: dict[int, float] = {}
        self._prune_at = prune_at

    def report(self, value: float, step: int) -> None:
        self.reports[step] = value

    def should_prune(self) -> bool:
        return self._prune_at is not None and max(self.reports) >= self._prune_at

    def set_user_attr(self, key: str, value: Any) -> None:
        raise AssertionError("not used")


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    Digits(Settings(threads=2)).prepare()


def test_validation_accuracy_is_reported_after_every_epoch_and_returned() -> None:
    trial = Notebook()
    value = Digits(Settings(epochs=4))(trial)
    assert list(trial.reports) == [1, 2, 3, 4]
    assert value == trial.reports[4] > 0.8


def test_the_pruner_ends_the_training() -> None:
    trial = Notebook(prune_at=2)
    with pytest.raises(optuna.TrialPruned):
        Digits(Settings(epochs=50))(trial)
    assert list(trial.reports) == [1, 2]


def test_a_trial_that_has_trained_every_epoch_is_not_pruned_any_more() -> None:
    trial = Notebook(prune_at=2)
    assert Digits(Settings(epochs=2))(trial) == trial.reports[2]


def test_divergence_prunes_with_the_reason_and_reports_no_nan() -> None:
    trial = Notebook(learning_rate=1e30)
    with pytest.raises(optuna.TrialPruned, match=r"diverged: loss became (nan|inf) in epoch 1"):
        Digits(Settings(epochs=3))(trial)
    assert all(value == value for value in trial.reports.values())


def test_another_metric_can_be_reported() -> None:
    trial = Notebook()
    Digits(Settings(epochs=2, metric="val_loss"))(trial)
    assert trial.reports[2] < trial.reports[1]


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(ObjectiveError, match="did you mean 'val_accuracy'"):
        Digits(Settings(epochs=1, metric="val_acuracy"))(Notebook())


def test_the_same_seed_trains_to_the_same_values() -> None:
    first, second, other = Notebook(5), Notebook(5), Notebook(6)
    for trial in (first, second, other):
        Digits(Settings(epochs=2))(trial)
    assert first.reports == second.reports != other.reports


def test_an_interruption_passes_through_keras_unharmed() -> None:
    class Interruption(BaseException):
        pass

    class Interrupted(Notebook):
        def report(self, value: float, step: int) -> None:
            raise Interruption

    with pytest.raises(Interruption):
        Digits(Settings(epochs=3))(Interrupted())


@pytest.mark.parametrize("module", ["base", "data", "training", "mnist", "digits", "quadratic"])
def test_importing_an_objective_does_not_import_tensorflow(module: str) -> None:
    code = (
        f"import sys, objectives.{module}; "
        "sys.exit(bool({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
