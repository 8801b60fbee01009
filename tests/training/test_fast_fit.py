"""The fast fit against Keras's own, on real digits: the same training, faster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from orchestrator.training import compiled_epoch as shared_step
from orchestrator.training import fast_fit
from orchestrator.training.builtin.network import network
from orchestrator.training.compiled_epoch import parts_of
from orchestrator.training.data import load

PARAMS: dict[str, Any] = {
    "activation": "relu", "units": 64, "units_2": 32, "units_3": 16, "units_4": 16,
    "dropout": 0.2, "learning_rate": 3e-3,
}  # fmt: skip
DATA = load("digits")
X, Y = DATA.x_train, DATA.y_train
TRAIN, VALIDATION = (X[:1000], Y[:1000]), (X[1000:], Y[1000:])


def model(**changes: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    return network({**PARAMS, **changes}, DATA)


def fast(each: keras.Model, x: Any, y: Any, batch_size: int, **options: Any) -> Any:
    """The fit as a worker calls it."""
    arguments = {"x": x, "y": y, "batch_size": batch_size, **options}
    if fast_fit.obstacle(each, arguments):
        return each.fit(**arguments)
    return fast_fit.fit(each, seeds=(1,), **arguments)


def fast_in_order(each: keras.Model, x: Any, y: Any, batch_size: int, **options: Any) -> Any:
    return fast(each, x, y, batch_size, shuffle=False, **options)


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


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_the_same_batches_train_to_the_same_weights(optimizer: str) -> None:
    changes = {"optimizer": optimizer, "momentum": 0.5}
    ours, theirs = model(**changes), model(**changes)
    history = fast_in_order(ours, *TRAIN, 64, epochs=1, validation_data=VALIDATION, verbose=0)
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
def test_what_an_optimizer_can_do_beside_its_formula_stays_keras_own(optimizer: Any) -> None:
    losses = []
    for fit in (fast_in_order, keras_in_order):
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
    for diary, fit in zip(diaries, (fast_in_order, keras_in_order), strict=True):
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


class OwnFit(keras.Model):  # type: ignore[misc]
    def fit(self, *arguments: Any, **options: Any) -> Any:
        return super().fit(*arguments, **options)


def of_class(kind: type[keras.Model]) -> keras.Model:
    plain = model()
    each = kind(plain.inputs, plain.outputs)
    each.compile("adam", "sparse_categorical_crossentropy")
    return each


def compiled(**options: Any) -> keras.Model:
    each = model()
    each.compile("adam", "sparse_categorical_crossentropy", **options)
    return each


def not_compiled() -> keras.Model:
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])


def with_own_function() -> keras.Model:
    each = model()
    each.train_function = lambda iterator: {}
    return each


def frozen_later() -> keras.Model:
    each = model()
    each.fit(X[:64], Y[:64], verbose=0)
    each.layers[-1].trainable = False
    return each


class EveryBatch(keras.callbacks.Callback):  # type: ignore[misc]
    seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen += 1


def of_every_batch(*_: Any) -> None:
    """A hook."""


def in_batches() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X[:64], Y[:64])).batch(32)


CALLBACKS = keras.callbacks
TWO = {"x": X[:64], "y": Y[:64]}
OBSTACLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "a callback that watches batches (EveryBatch)": (model, {"callbacks": [EveryBatch()]}),
    "a callback that watches batches (LambdaCallback)": (
        model, {"callbacks": CALLBACKS.LambdaCallback(on_train_batch_end=of_every_batch)}),
    "a callback that watches batches (ModelCheckpoint)": (
        model, {"callbacks": CALLBACKS.ModelCheckpoint("m.keras", save_freq=5)}),
    "a callback that watches batches (ProgbarLogger)": (
        model, {"callbacks": CALLBACKS.CallbackList([CALLBACKS.ProgbarLogger()])}),
    "steps_per_epoch": (model, {"steps_per_epoch": 1}),
    "validation_steps": (model, {"validation_steps": 1}),
    "validation_freq": (model, {"validation_freq": 2}),
    'shuffle="batch"': (model, {"shuffle": "batch"}),
    "train_step of its own": (lambda: of_class(OwnStep), {}),
    "fit of its own": (lambda: of_class(OwnFit), {}),
    "a train function of its own": (with_own_function, {}),
    "layers that were frozen or released after compile()": (frozen_later, {}),
    "run_eagerly": (lambda: compiled(run_eagerly=True), {}),
    "jit_compile": (lambda: compiled(jit_compile=True), {}),
    "a model that is not compiled": (not_compiled, {}),
    "x of type _BatchDataset": (model, {"x": in_batches(), "y": None}),
    "x of type generator": (model, {"x": (each for each in [TWO]), "y": None}),
    "x of type NoneType": (model, {"x": None}),
    "x of type int": (model, {"x": [[1, 2], [3, 4]]}),
    "x of type SparseTensor": (model, {"x": tf.sparse.from_dense(X[:64])}),
    "x of type csr_matrix": (model, {"x": scipy.sparse.csr_matrix(X[:64, 0])}),
    "x of type ResourceVariable": (model, {"x": tf.Variable(X[:64])}),
    "x of dtype <U1": (model, {"x": np.array(["a", "b"])}),
    "x of dtype object": (model, {"x": np.array([["a"], ["b"]], dtype=object)}),
    "x without examples": (model, {"x": X[:0], "y": Y[:0]}),
    "y of type NoneType": (model, {"y": {"a": Y[:64], "b": None}}),
    "validation x of type _BatchDataset": (model, {"validation_data": in_batches()}),
    "validation_data that Keras refuses": (model, {"validation_data": (X, Y, Y, Y)}),
    "speed": (model, {"speed": 2}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("words", OBSTACLES)
def test_what_keras_alone_can_do_is_left_to_keras_and_named(words: str) -> None:
    make, arguments = OBSTACLES[words]
    assert fast_fit.obstacle(make(), {**TWO, **arguments}) == words


def test_a_fit_that_was_set_on_the_instance_is_not_an_obstacle() -> None:
    each = model()
    each.fit = lambda *arguments, **options: None
    assert fast_fit.obstacle(each, TWO) is None
    each.evaluate = lambda *arguments, **options: None
    assert fast_fit.obstacle(each, TWO) == "evaluate of its own"


def test_a_setting_of_the_whole_process_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.config.set_max_epochs(1)
    try:
        assert fast_fit.obstacle(model(), TWO) == "keras.config.set_max_epochs"
    finally:
        keras.config.set_max_epochs(None)
    tf.config.run_functions_eagerly(True)
    try:
        assert fast_fit.obstacle(model(), TWO) == "tf.config.run_functions_eagerly"
    finally:
        tf.config.run_functions_eagerly(False)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert fast_fit.obstacle(model(), TWO) == "a distribution strategy"
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [kind] if kind else []
    )
    assert fast_fit.obstacle(model(), TWO) == "a GPU"


def test_callbacks_that_save_epochs_only_are_taken(tmp_path: Path, keras_fit: list[int]) -> None:
    saver = CALLBACKS.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    each = model()
    fast(each, *TRAIN, 64, epochs=2, verbose=0, callbacks=[saver])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.weights.h5", "2.weights.h5"]
    assert not keras_fit


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
    history = fast(each, *TRAIN, 32, epochs=4, validation_data=VALIDATION, verbose=0)
    assert history.history["val_accuracy"][-1] > 0.85
    assert history.history["val_sparse_top_k_categorical_accuracy"][-1] > 0.95
    assert np.abs(each.layers[2].moving_mean.numpy()).max() > 0, "the batches' mean is learnt"
    assert not keras_fit


def test_every_example_is_seen_once_an_epoch_in_another_order_each(keras_fit: list[int]) -> None:
    """A model whose loss is the sum of what it is given, and whose metric has a memory."""
    numbers = np.arange(10, dtype=np.float32)[:, None]
    each = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    each.compile(keras.optimizers.SGD(0.0), lambda y, predicted: y + 0.0 * predicted)
    history = fast(each, numbers, numbers, 4, epochs=3, verbose=0)
    assert history.history["loss"] == pytest.approx([4.5] * 3), "weighted by the batches' sizes"
    assert each.optimizer.iterations.numpy() == 9 and not keras_fit


def test_watching_the_loss_ends_an_epoch_with_the_diverged_step() -> None:
    class Watcher(keras.callbacks.Callback):  # type: ignore[misc]
        watches_loss = True

    steps = []
    for callbacks in ([Watcher()], []):
        each = model(learning_rate=1e30)
        history = fast(
            each, *TRAIN, 8, validation_data=VALIDATION, verbose=0, callbacks=callbacks
        ).history
        assert not np.isfinite(history["loss"][0])
        assert ("val_loss" in history) is (not callbacks), "there is nothing to validate"
        steps.append(int(each.optimizer.iterations.numpy()))
    assert steps[0] < 10 and steps[1] == 125


def test_batches_in_parts_train_to_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_fit, "parts_of", lambda *_: 3)
    ours, theirs = model(optimizer="sgd", dropout=0.0), model(optimizer="sgd", dropout=0.0)
    history = fast_in_order(ours, *TRAIN, 64, epochs=1, validation_data=VALIDATION, verbose=0)
    expected = theirs.fit(
        *TRAIN, batch_size=64, epochs=1, validation_data=VALIDATION, verbose=0, shuffle=False
    )
    for name, values in expected.history.items():
        assert history.history[name] == pytest.approx(values, abs=1e-4), name
    for mine, weight in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, weight, atol=1e-6)


def test_what_treats_each_example_by_itself_is_shared_out_in_parts_that_are_worth_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_step, "_threads_side_by_side", lambda: 3)
    plain = model()
    assert [parts_of(plain, size, TRAIN) for size in (32, 64, 96, 512)] == [1, 2, 3, 3]
    assert parts_of(plain, 64, (X[:65], Y[:65])) == 1, (
        "the last batch has one example, and no second part"
    )
    assert parts_of(model(normalisation=True), 256, TRAIN) == 1, "it looks at the whole batch"
    summed = model()
    summed.compile("sgd", keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    assert parts_of(summed, 256, TRAIN) == 1, "its gradients add up in another way"
    regular = keras.Sequential([keras.Input((64,)), keras.layers.Dense(
        10, activation="softmax", activity_regularizer="l2")])  # fmt: skip
    regular.compile("sgd", "sparse_categorical_crossentropy")
    assert parts_of(regular, 256, TRAIN) == 1
    entry = keras.Input((64,))
    centred = keras.Model(entry, keras.layers.Dense(10)(entry - keras.ops.mean(entry, axis=0)))
    centred.compile("sgd", "mse")
    assert parts_of(centred, 256, TRAIN) == 1, "an operation that is no layer counts too"
    weighted = (*TRAIN, np.ones(len(TRAIN[0])))
    assert parts_of(plain, 512, weighted) == 1, "with weights it is not the plain mean"
    monkeypatch.undo()
    assert parts_of(plain, 512, TRAIN) == 1, "an operation has all threads, unless it was said"


def with_dropout() -> keras.Model:
    each = model(dropout=0.3, optimizer="adam")
    each.optimizer.build(each.trainable_variables)
    return each


def variables(each: keras.Model) -> list[Any]:
    return [*each.variables, *each.optimizer.variables]


def test_a_training_that_continues_in_another_process_equals_the_uninterrupted_one() -> None:
    """Its order follows from the seeds and the epoch; its random states are the model's."""
    whole, begun, continued = with_dropout(), with_dropout(), with_dropout()
    options: dict[str, Any] = {"batch_size": 64, "validation_data": VALIDATION, "seeds": (7, 0)}
    options |= {"x": TRAIN[0], "y": TRAIN[1]}
    expected = fast_fit.fit(whole, epochs=4, **options).history
    fast_fit.fit(begun, epochs=2, **options)
    for mine, theirs in zip(variables(continued), variables(begun), strict=True):
        mine.assign(theirs.numpy())
    np.random.seed(99)
    keras.utils.set_random_seed(99)
    history = fast_fit.fit(continued, epochs=4, initial_epoch=2, **options).history
    for name, values in expected.items():
        assert history[name] == pytest.approx(values[2:], rel=1e-5), name
    for mine, theirs in zip(variables(continued), variables(whole), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-7)


def orders_of(seeds: tuple[int, ...], **options: Any) -> list[list[int]]:
    """The examples in the order in which they came, for each epoch."""
    seen: list[int] = []

    def loss(y: Any, predicted: Any) -> Any:
        tf.numpy_function(lambda batch: seen.extend(batch[:, 0].tolist()), [y], [])
        return y + 0.0 * predicted

    numbers = np.arange(10, dtype=np.float32)[:, None]
    each = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    each.compile(keras.optimizers.SGD(0.0), loss)
    fast_fit.fit(each, seeds=seeds, x=numbers, y=numbers, batch_size=4, **options)
    return [seen[at : at + 10] for at in range(0, len(seen), 10)]


def test_the_order_of_an_epoch_follows_from_the_seeds_and_the_epoch_alone() -> None:
    first, second, third = orders_of((5, 1), epochs=3)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second != third
    assert orders_of((5, 1), epochs=3, initial_epoch=2) == [third]
    assert orders_of((5, 2), epochs=1) != [first]
    assert orders_of((5, 1), epochs=1, shuffle=False) == [list(range(10))]


class Extremes(keras.metrics.Metric):  # type: ignore[misc]
    """A metric whose result is a dictionary."""

    def __init__(self) -> None:
        super().__init__(name="extremes")
        self.high = self.add_weight(name="high", initializer="zeros")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.high.assign(keras.ops.maximum(self.high, keras.ops.max(predicted)))

    def result(self) -> Any:
        return {"low": -self.high, "high": self.high + 0.0}


class StopsAtBegin(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = epoch == 1


def test_nests_weights_metrics_of_several_values_and_a_stop_at_an_epochs_begin() -> None:
    """One call of many kinds; test_fast_fit_equals_keras.py has each of them alone."""

    def branches() -> keras.Model:
        keras.utils.set_random_seed(2)
        entries = {name: keras.Input((8, 4, 1), name=name) for name in ("top", "bottom")}
        both = keras.layers.Flatten()(keras.layers.Concatenate(axis=1)(list(entries.values())))
        digit = keras.layers.Dense(10, "softmax", name="digit")(both)
        ink = keras.layers.Dense(1, name="ink")(both)
        each = keras.Model(entries, {"digit": digit, "ink": ink})
        metrics = {"digit": [keras.metrics.F1Score(), Extremes()], "ink": ["mae"]}
        each.compile("sgd", {"digit": "categorical_crossentropy", "ink": "mse"}, metrics=metrics)
        return each

    halves = X.reshape(len(X), 8, 8, 1)[:300]
    arguments: dict[str, Any] = {
        "x": {"top": halves[:, :, :4], "bottom": halves[:, :, 4:].astype("float64")},
        "y": {"digit": np.eye(10)[Y[:300]], "ink": X[:300].mean(axis=(1, 2)).reshape(300)},
        "sample_weight": np.linspace(0, 1, 300),
        "batch_size": 64, "epochs": 3, "shuffle": False, "verbose": 0,
    }  # fmt: skip
    arguments["validation_data"] = (arguments["x"], arguments["y"])
    ours, theirs = branches(), branches()
    assert fast_fit.obstacle(ours, arguments) is None
    history = fast_fit.fit(ours, seeds=(1,), callbacks=StopsAtBegin(), **arguments).history
    expected = theirs.fit(callbacks=StopsAtBegin(), **arguments).history
    assert list(history) == list(expected) and np.shape(history["digit_f1_score"]) == (2, 10)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    for mine, weight in zip(variables(ours), variables(theirs), strict=True):
        np.testing.assert_allclose(mine.numpy(), weight.numpy(), rtol=1e-4, atol=1e-6)


def test_random_state_that_cannot_be_saved_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    each = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    each.add(keras.layers.Lambda(lambda x: x + tf.random.normal(tf.shape(x))))
    each.add(keras.layers.Dense(10, "softmax"))
    each.compile("sgd", "sparse_categorical_crossentropy")
    with caplog.at_level("INFO", "orch"):
        fast_fit.fit(with_dropout(), seeds=(1,), **TWO)
        assert not caplog.messages, "Keras's own layers have states that are kept"
        fast_fit.fit(each, seeds=(1,), **TWO)
    assert "RandomStandardNormal" in caplog.text


def test_the_graphs_stay_until_the_model_is_compiled_again() -> None:
    traces: list[int] = []

    def loss(y: Any, predicted: Any) -> Any:
        traces.append(1)
        return keras.losses.sparse_categorical_crossentropy(y, predicted)

    each = model()
    each.compile("sgd", loss)
    fast_fit.fit(each, seeds=(1,), **TWO)
    once = len(traces)
    fast_fit.fit(each, seeds=(1,), epochs=2, initial_epoch=1, **TWO)
    assert len(traces) == once
    each.compile("sgd", loss)
    fast_fit.fit(each, seeds=(1,), **TWO)
    assert len(traces) > once


def test_another_backend_is_an_obstacle_and_imports_no_tensorflow() -> None:
    pytest.importorskip("jax")
    code = (
        "import sys; from orchestrator.training import compiled_epoch, fast_fit\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "import keras; model = keras.Sequential([keras.layers.Dense(1)]); model.compile('sgd')\n"
        "assert fast_fit.obstacle(model, {'x': None}) == 'the JAX backend'\n"
        "assert 'tensorflow' not in sys.modules"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_importing_the_fast_fit_imports_neither_keras_nor_tensorflow() -> None:
    code = (
        "import sys; from orchestrator.training import compiled_epoch, fast_fit\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
