"""A metric that a Keras model does not report is known before the first epoch."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from notebook import Notebook

from orchestrator.errors import WrongUse
from orchestrator.objective import KerasObjective, Settings, Trial
from orchestrator.training.keras_tuner import KerasTunerObjective


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    Small(Settings()).prepare(threads=2)


class Small(KerasObjective):
    """Everything that a batch could change: moving averages, random layers, metrics."""

    default_data = "digits"
    builds = 0
    units = 0

    def build(self, trial: Trial) -> Any:
        import keras

        class Noise(keras.layers.Layer):  # type: ignore[misc]
            """Draws in every call, also while it is tested."""

            def __init__(self) -> None:
                super().__init__()
                self.generator = keras.random.SeedGenerator()

            def call(self, x: Any) -> Any:
                return x + keras.random.normal(keras.ops.shape(x), seed=self.generator) / 100

        Small.builds += 1
        # As user code does, from the generators that set_random_seed sets.
        units = self.units or 16 + random.randrange(4) + int(np.random.randint(4))
        layers = keras.layers
        model = keras.Sequential([
            keras.Input((8, 8)), layers.Flatten(), Noise(), layers.Dense(units),
            layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(10, "softmax"),
        ])  # fmt: skip
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def epochs(self, trial: Trial) -> int:
        return 2


class Keeping(Notebook):
    """Keeps the state of the last epoch."""

    keep_at = 2


@pytest.mark.parametrize("metrics", [("val_acuracy",), ("val_accuracy", "foo")])
def test_an_unknown_metric_is_refused_before_the_first_epoch(metrics: tuple[str, ...]) -> None:
    trial = Keeping()
    with pytest.raises(WrongUse, match="known are accuracy, loss, parameters, val_accuracy, val_"):
        Small(Settings(metrics=metrics, epochs=2))(trial)
    assert not trial.reports


def test_checking_metric_names_leaves_the_training_bit_identical() -> None:
    trials = Keeping(), Keeping()
    looking, not_looking = (Small(Settings(epochs=2)) for _ in trials)
    not_looking._metrics_are_tried = True
    Small.builds = 0
    values = looking(trials[0]), not_looking(trials[1])
    assert Small.builds == 3, "one of them has looked"
    assert values[0] == values[1]
    assert trials[0].reports == trials[1].reports
    first, second = (trial.kept[1] for trial in trials if trial.kept is not None)
    assert first.keys() == second.keys() and len(first) > 10
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


def test_metric_names_are_checked_once_and_only_when_useful() -> None:
    Small.builds = 0
    objective = Small(Settings(epochs=2))
    for _ in range(2):
        objective(Keeping())
    Small(Settings(metrics=("val_loss", "parameters"), epochs=2))(Keeping())
    assert Small.builds == 4


def test_a_model_with_its_own_test_step_is_checked_after_its_first_epoch() -> None:
    import keras

    class OwnTest(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(10, "softmax")

        def call(self, x: Any) -> Any:
            return self.dense(self.flatten(x))

        def test_step(self, data: Any) -> Any:
            return {**super().test_step(data), "own": keras.ops.ones(())}

    class Own(Small):
        def build(self, trial: Trial) -> Any:
            model = OwnTest()
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            return model

    trial = Keeping()
    assert Own(Settings(metrics=("val_own",), epochs=2))(trial) == [1.0]
    trial = Keeping()
    with pytest.raises(WrongUse, match="val_own"):
        Own(Settings(metrics=("foo",), epochs=2))(trial)
    assert not trial.reports


def test_a_users_fit_may_return_other_metrics() -> None:
    def build(hp: Any) -> Any:
        return Small(Settings()).build(Notebook())

    class WithFit:
        def build(self, hp: Any) -> Any:
            return build(hp)

        def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            return {"f1": 0.5}

    assert KerasTunerObjective(WithFit, Settings(metrics=("f1",), data="digits"))(Keeping()) == [
        0.5
    ]
    with pytest.raises(WrongUse, match="known are accuracy"):
        KerasTunerObjective(build, Settings(metrics=("f1",), data="digits"))(Keeping())


def test_errors_in_the_metric_check_are_left_to_the_training() -> None:
    class Broken(Small):
        def build(self, trial: Trial) -> Any:
            import keras

            model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(10)])
            model.compile("adam", "sparse_categorical_crossentropy")
            return model

    with pytest.raises(ValueError, match="shape"):
        Broken(Settings(metrics=("foo",), epochs=1))(Keeping())


def test_a_retry_from_a_checkpoint_skips_the_metric_check() -> None:
    class Fixed(Small):
        units = 16

    first, retry = Keeping(), Keeping()
    first.keep_at = 1
    Fixed(Settings(epochs=2))(first)
    retry.found = first.kept
    Small.builds = 0
    Fixed(Settings(epochs=2))(retry)
    assert Small.builds == 1 and list(retry.reports) == [2]
