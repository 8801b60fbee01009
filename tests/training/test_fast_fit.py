"""The fast fit against Keras's own, on real digits: the same training, faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.training import compiled_epoch as shared_step
from orchestrator.training import fast_fit
from orchestrator.training.builtin.network import network
from orchestrator.training.compiled_epoch import parts_of
from orchestrator.training.data import load
from orchestrator.training.rounds import scaled

PARAMS: dict[str, Any] = {
    "activation": "relu", "units": 64, "units_2": 32, "units_3": 16, "units_4": 16,
    "dropout": 0.2, "learning_rate": 3e-3,
}  # fmt: skip
DATA = load("digits")
X, Y = scaled(DATA.x_train), DATA.y_train
TRAIN, VALIDATION = (X[:1000], Y[:1000]), (X[1000:], Y[1000:])


def model(**changes: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    return network({**PARAMS, **changes}, DATA)


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast fit takes the examples as they come, as Keras does with shuffle=False."""
    monkeypatch.setattr(np.random, "permutation", np.arange)


@pytest.fixture
def keras_fit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the calls of Keras's own fit."""
    calls: list[int] = []
    original = keras.Model.fit

    def fit(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(keras.Model, "fit", fit)
    return calls


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_the_same_batches_train_to_the_same_weights(optimizer: str) -> None:
    changes = {"optimizer": optimizer, "momentum": 0.5}
    ours, theirs = model(**changes), model(**changes)
    history = fast_fit.fit(ours, *TRAIN, 64, epochs=1, validation_data=VALIDATION, verbose=0)
    expected = theirs.fit(
        *TRAIN, batch_size=64, epochs=1, validation_data=VALIDATION, verbose=0, shuffle=False
    )
    assert isinstance(history, keras.callbacks.History) and history is ours.history
    assert list(history.history) == list(expected.history)
    for name, values in expected.history.items():
        assert history.history[name] == pytest.approx(values, abs=2e-3), name
    # Adam divides by the gradient's size: rounding grows where there is hardly any gradient.
    tolerance = 5e-3 if optimizer in ("adam", "adamw") else 1e-6
    for mine, weight in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, weight, atol=tolerance)
    assert ours.optimizer.iterations.numpy() == theirs.optimizer.iterations.numpy() == 16


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=1.0),
        lambda: keras.optimizers.Adam(3e-3, amsgrad=True, use_ema=True),
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 20)),
        lambda: keras.optimizers.Adam(3e-3, weight_decay=0.01, gradient_accumulation_steps=2),
    ],
    ids=["nesterov and clipping", "amsgrad and averaging", "schedule", "accumulation"],
)
def test_optimizer_features_beyond_the_formula_equal_keras(
    optimizer: Callable[[], keras.optimizers.Optimizer],
) -> None:
    losses = []
    for fit in (fast_fit.fit, keras_in_order):
        each = model()
        each.compile(optimizer(), "sparse_categorical_crossentropy")
        losses.append(fit(each, *TRAIN, 64, epochs=2, verbose=0).history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def keras_in_order(each: keras.Model, x: Any, y: Any, batch_size: int, **options: Any) -> Any:
    return each.fit(x, y, batch_size=batch_size, shuffle=False, **options)


def test_the_callbacks_of_epochs_are_called_as_keras_calls_them(keras_fit: list[int]) -> None:
    class Diary(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[Any] = []

        def on_train_begin(self, logs: Any = None) -> None:
            self.lines.append(("begin", self.params["epochs"], self.params["steps"]))

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.lines.append(("epoch", epoch))

        def on_test_begin(self, logs: Any = None) -> None:
            self.lines.append("test")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.lines.append((epoch, sorted(logs), {type(each) for each in logs.values()}))
            self.model.stop_training = epoch == 2

        def on_train_end(self, logs: Any = None) -> None:
            self.lines.append(("end", sorted(logs)))

    diaries = Diary(), Diary()
    rates = []
    fits: list[Callable[..., Any]] = [fast_fit.fit, keras_in_order]
    for diary, fit in zip(diaries, fits, strict=True):
        each = model()
        schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1))
        fit(each, *TRAIN, 96, initial_epoch=1, epochs=9, validation_data=VALIDATION, verbose=0,
            callbacks=[diary, schedule])  # fmt: skip
        rates.append(float(each.optimizer.learning_rate))
    assert diaries[0].lines == diaries[1].lines
    assert rates[0] == rates[1] == pytest.approx(0.01 / 3)
    assert len(keras_fit) == 1, "only the comparison went through Keras"


class OwnStep(keras.Model):  # type: ignore[misc]
    def train_step(self, data: Any) -> Any:
        return {**super().train_step(data), "seen": 1.0}


def own_step() -> keras.Model:
    plain = model()
    each = OwnStep(plain.inputs, plain.outputs)
    each.compile("adam", "sparse_categorical_crossentropy")
    return each


def eager() -> keras.Model:
    each = model()
    each.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    return each


class EveryBatch(keras.callbacks.Callback):  # type: ignore[misc]
    seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen += 1


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (model, {"class_weight": dict.fromkeys(range(10), 1.0)}),
        (model, {"sample_weight": np.ones(128)}),
        (model, {"callbacks": [EveryBatch()]}),
        (model, {"callbacks": [keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]}),
        (model, {"validation_split": 0.1}),
        (own_step, {}),
        (eager, {}),
    ],
    ids=["class weights", "sample weights", "callback of batches", "lambda of batches", "option",
         "own step", "eager"],
)  # fmt: skip
def test_options_that_only_keras_supports_fall_back_to_keras(
    make: Callable[[], keras.Model],
    options: dict[str, Any],
    keras_fit: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    history = fast_fit.fit(make(), X[:128], Y[:128], 64, verbose=0, **options)
    assert len(keras_fit) == 1 and len(history.history["loss"]) == 1
    for callback in options.get("callbacks", ()):
        if isinstance(callback, EveryBatch):
            assert callback.seen == 2


def test_a_model_without_an_input_and_with_state_of_its_own_trains(keras_fit: list[int]) -> None:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    each = keras.Sequential([layers.Flatten(), layers.Dense(32), layers.BatchNormalization()])
    each.add(layers.Activation("relu"))
    each.add(layers.Dense(10))
    each.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(3)],
    )
    history = fast_fit.fit(each, *TRAIN, 32, epochs=4, validation_data=VALIDATION, verbose=0)
    assert history.history["val_accuracy"][-1] > 0.85
    assert history.history["val_sparse_top_k_categorical_accuracy"][-1] > 0.95
    assert np.abs(each.layers[2].moving_mean.numpy()).max() > 0, "the batches' mean is learnt"
    assert not keras_fit


def test_every_example_is_seen_once_per_epoch_in_a_new_order(keras_fit: list[int]) -> None:
    """A model whose loss is the sum of what it is given, and whose metric has a memory."""
    numbers = np.arange(10, dtype=np.float32)[:, None]
    each = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    each.compile(keras.optimizers.SGD(0.0), lambda y, predicted: y + 0.0 * predicted)
    history = fast_fit.fit(each, numbers, numbers, 4, epochs=3, verbose=0)
    assert history.history["loss"] == pytest.approx([4.5] * 3), "weighted by the batches' sizes"
    assert each.optimizer.iterations.numpy() == 9 and not keras_fit


def test_an_epoch_ends_at_the_diverged_step_if_the_loss_is_watched() -> None:
    class Watcher(keras.callbacks.Callback):  # type: ignore[misc]
        watches_loss = True

    steps = []
    for callbacks in ([Watcher()], []):
        each = model(learning_rate=1e30)
        history = fast_fit.fit(
            each, *TRAIN, 8, validation_data=VALIDATION, verbose=0, callbacks=callbacks
        ).history
        assert not np.isfinite(history["loss"][0])
        assert ("val_loss" in history) is (not callbacks), "there is nothing to validate"
        steps.append(int(each.optimizer.iterations.numpy()))
    assert steps[0] < 10 and steps[1] == 125


@pytest.mark.usefixtures("in_order")
def test_split_batches_train_to_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_fit, "parts_of", lambda *_: 3)
    ours, theirs = model(optimizer="sgd", dropout=0.0), model(optimizer="sgd", dropout=0.0)
    history = fast_fit.fit(ours, *TRAIN, 64, epochs=1, validation_data=VALIDATION, verbose=0)
    expected = theirs.fit(
        *TRAIN, batch_size=64, epochs=1, validation_data=VALIDATION, verbose=0, shuffle=False
    )
    for name, values in expected.history.items():
        assert history.history[name] == pytest.approx(values, abs=1e-4), name
    for mine, weight in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, weight, atol=1e-6)


def test_models_without_batch_effects_are_split_into_worthwhile_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_step, "_threads_side_by_side", lambda: 3)
    plain = model()
    assert [parts_of(plain, size, 50_000) for size in (32, 64, 96, 512)] == [1, 2, 3, 3]
    assert parts_of(plain, 64, 65) == 1, "the last batch has one example, and no second part"
    assert parts_of(model(normalisation=True), 256, 50_000) == 1, "it looks at the whole batch"
    summed = model()
    summed.compile("sgd", keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    assert parts_of(summed, 256, 50_000) == 1, "its gradients add up in another way"
    regular = keras.Sequential([keras.Input((64,)), keras.layers.Dense(
        10, activation="softmax", activity_regularizer="l2")])  # fmt: skip
    regular.compile("sgd", "sparse_categorical_crossentropy")
    assert parts_of(regular, 256, 50_000) == 1
    entry = keras.Input((64,))
    centred = keras.Model(entry, keras.layers.Dense(10)(entry - keras.ops.mean(entry, axis=0)))
    centred.compile("sgd", "mse")
    assert parts_of(centred, 256, 50_000) == 1, "an operation that is no layer counts too"
    monkeypatch.undo()
    assert parts_of(plain, 512, 50_000) == 1, "an operation has all threads, unless it was said"
