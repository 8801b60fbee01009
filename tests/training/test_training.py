"""Real Keras trainings on real digits: reports, pruning, divergence, seeds."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest
from notebook import PARAMS, Notebook

from orchestrator.errors import ObjectiveError
from orchestrator.training.base import Settings
from orchestrator.training.builtin.digits import Digits
from orchestrator.training.builtin.network import network
from orchestrator.training.state import capture_state, restore_model


def build(objective: Digits, **changes: Any) -> Any:
    return network({**PARAMS, **changes}, objective.dataset)


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    Digits(Settings()).prepare(threads=2)


def test_validation_accuracy_is_reported_after_every_epoch_and_returned() -> None:
    trial = Notebook()
    [value] = Digits(Settings(epochs=4))(trial)
    assert list(trial.reports) == [1, 2, 3, 4]
    assert value == trial.reports[4] > 0.8


def test_the_pruner_stops_the_training() -> None:
    trial = Notebook(prune_at=2)
    with pytest.raises(optuna.TrialPruned):
        Digits(Settings(epochs=50))(trial)
    assert list(trial.reports) == [1, 2]


def test_a_fully_trained_trial_is_not_pruned() -> None:
    trial = Notebook(prune_at=2)
    assert Digits(Settings(epochs=2))(trial) == [trial.reports[2]]


def test_divergence_prunes_with_the_reason_and_reports_no_nan() -> None:
    trial = Notebook(learning_rate=1e30)
    with pytest.raises(optuna.TrialPruned, match=r"diverged: loss became (nan|inf) in epoch 1"):
        Digits(Settings(epochs=3))(trial)
    assert all(value == value for value in trial.reports.values())


def test_another_metric_can_be_reported() -> None:
    trial = Notebook()
    Digits(Settings(epochs=2, metrics=("val_loss",)))(trial)
    assert trial.reports[2] < trial.reports[1]


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(ObjectiveError, match="did you mean 'val_accuracy'"):
        Digits(Settings(epochs=1, metrics=("val_acuracy",)))(Notebook())


def test_the_same_seed_trains_to_the_same_values() -> None:
    first, second, other = Notebook(5), Notebook(5), Notebook(6)
    for trial in (first, second, other):
        Digits(Settings(epochs=2))(trial)
    assert first.reports == second.reports != other.reports


def test_the_graphs_of_a_trial_are_freed_after_it() -> None:
    """TensorFlow's registry of gradients would keep them: a worker grew by 8 MiB a trial."""
    from tensorflow.python.framework.func_graph import FuncGraph

    def graphs() -> int:
        gc.collect()
        return sum(type(each) is FuncGraph for each in gc.get_objects())

    objective = Digits(Settings(epochs=1))
    objective(Notebook(batch_size=256))
    after_one = graphs()
    objective(Notebook(batch_size=256))
    assert graphs() == after_one


def test_training_resumes_exactly_from_a_checkpoint() -> None:
    first = Notebook()
    first.keep_at = 3
    Digits(Settings(epochs=4))(first)
    retry = Notebook()
    retry.found = first.kept
    [value] = Digits(Settings(epochs=4))(retry)
    assert list(retry.reports) == [4], "three epochs are not trained again"
    assert abs(value - first.reports[4]) < 0.05, "it goes on from the weights of epoch 3"


def test_a_checkpoint_holds_the_weights_and_the_optimizers_state() -> None:
    trial = Notebook()
    trial.keep_at = 1
    objective = Digits(Settings(epochs=1))
    objective(trial)
    assert trial.kept is not None
    fresh = build(objective)
    restore_model(fresh, trial.kept[1])
    again = capture_state(fresh)
    assert all(np.array_equal(again[key], trial.kept[1][key]) for key in again)
    assert fresh.optimizer.iterations.numpy() == -(-1198 // 64)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    objective = Digits(Settings())
    state = capture_state(build(objective))
    with pytest.raises(ObjectiveError, match="another model"):
        restore_model(build(objective, units=32), state)


def test_an_interruption_passes_through_keras_unharmed() -> None:
    class Interruption(BaseException):
        pass

    class Interrupted(Notebook):
        def report(self, value: float, step: int) -> None:
            raise Interruption

    with pytest.raises(Interruption):
        Digits(Settings(epochs=3))(Interrupted())


@pytest.mark.parametrize(
    "module",
    [
        "objective",
        "training.keras",
        *(f"training.builtin.{each}" for each in ("mnist", "digits", "cnn", "quadratic")),
    ],
)
def test_importing_an_objective_does_not_import_tensorflow(module: str) -> None:
    code = (
        f"import sys, orchestrator.{module}; "
        "sys.exit(bool({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("value", ["best", "last"])
@pytest.mark.parametrize("metrics", [("val_accuracy",), ("val_loss", "parameters")])
def test_a_refit_needs_no_metric_of_a_validation_that_it_has_not(
    metrics: tuple[str, ...], value: Any
) -> None:
    refit = Digits(Settings(epochs=3, metrics=metrics, value=value)).refit(Notebook())
    assert refit.examples == 1437 and not refit.validated
    assert set(refit.history) == {"accuracy", "loss"} and refit.test["accuracy"] > 0.5
