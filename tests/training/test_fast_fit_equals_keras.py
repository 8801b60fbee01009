"""Whatever ``model.fit`` takes that the fast fit takes too: the same history, the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers

from orchestrator.training import fast_fit

Model = Any
RANDOM = np.random.default_rng(0)
N, TRAIN = 230, 165  # neither is a multiple of the batch size
A = RANDOM.normal(size=(N, 5)).astype("float32")
B = RANDOM.normal(size=(N, 3)).astype("float32")
BINARY = (A[:, 0] > 0).astype("int64")
CLASSES = RANDOM.integers(0, 3, N)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
NUMBER = (A[:, 1] * 2).astype("float32")
WEIGHT = RANDOM.random(N).astype("float32")
IDS = RANDOM.integers(0, 9, (N, 4))
WORDS = np.array(["good film", "bad film"], dtype=object)[BINARY]


def classifier(**compiled: Any) -> Model:
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, "relu"),
            layers.Dropout(0.3),
            layers.Dense(3, "softmax"),
        ]
    )
    return compile_(model, **{"loss": "sparse_categorical_crossentropy", **compiled})


def compile_(model: Model, **compiled: Any) -> Model:
    defaults = {"optimizer": keras.optimizers.SGD(0.05), "metrics": ["accuracy"]}
    model.compile(**{**defaults, **compiled})
    return model


def binary(**compiled: Any) -> Model:
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(1, "sigmoid")]
    )
    return compile_(model, **{"loss": "binary_crossentropy", **compiled})


def regression(**compiled: Any) -> Model:
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(1)])
    return compile_(model, **{"loss": "mse", "metrics": ["mae"], **compiled})


def two_in_two_out(as_dict: bool = True) -> Model:
    a, b = keras.Input((5,), name="a"), keras.Input((3,), name="b")
    hidden = layers.Dense(8, "relu")(layers.concatenate([a, b]))
    label = layers.Dense(1, "sigmoid", name="label")(hidden)
    size = layers.Dense(1, name="size")(hidden)
    if as_dict:
        model = keras.Model({"a": a, "b": b}, {"label": label, "size": size})
    else:
        model = keras.Model([a, b], [label, size])
    losses = {"label": "binary_crossentropy", "size": "mse"}
    metrics = {"label": ["accuracy"], "size": ["mae"]}
    weights = {"label": 1.0, "size": 0.5}
    if as_dict:
        return compile_(model, loss=losses, metrics=metrics, loss_weights=weights)
    return compile_(
        model,
        loss=list(losses.values()),
        metrics=list(metrics.values()),
        loss_weights=list(weights.values()),
    )


def text() -> Model:
    words = layers.TextVectorization(max_tokens=10, output_sequence_length=3)
    words.adapt(WORDS.tolist())
    model = keras.Sequential([keras.Input((), dtype="string"), words, layers.Embedding(10, 4)])
    model.add(layers.Flatten())
    model.add(layers.Dense(1, "sigmoid"))
    return compile_(model, loss="binary_crossentropy")


def tokens() -> Model:
    model = keras.Sequential([keras.Input((4,)), layers.Embedding(9, 4), layers.LSTM(5)])
    model.add(layers.Dense(1, "sigmoid"))
    return compile_(model, loss="binary_crossentropy")


def autoencoder() -> Model:
    class Reconstruction(layers.Layer):  # type: ignore[misc]
        def call(self, pair: Any) -> Any:
            self.add_loss(keras.ops.mean((pair[0] - pair[1]) ** 2))
            return pair[1]

    class Sampling(layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, mean: Any) -> Any:
            return mean + 0.1 * keras.random.normal(keras.ops.shape(mean), seed=self.seeds)

    x = keras.Input((5,))
    decoded = layers.Dense(5)(Sampling()(layers.Dense(2)(x)))
    return compile_(keras.Model(x, Reconstruction()([x, decoded])), metrics=None)


class Subclassed(keras.Model):  # type: ignore[misc]
    """Has weights after its first step only, and draws even when it does not train."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = keras.random.SeedGenerator(4)
        self.hidden, self.out = layers.Dense(6, "tanh"), layers.Dense(1)

    def call(self, x: Any) -> Any:
        hidden = self.hidden(x)
        return self.out(
            hidden + 0.01 * keras.random.normal(keras.ops.shape(hidden), seed=self.noise)
        )


class Quantiles(keras.metrics.Metric):  # type: ignore[misc]
    """A metric of several values: ``result`` is a dictionary."""

    def __init__(self) -> None:
        super().__init__(name="quantiles")
        self.low = self.add_weight(name="low", initializer="zeros")
        self.high = self.add_weight(name="high", initializer="zeros")

    def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.low.assign(keras.ops.minimum(self.low, keras.ops.min(predicted)))
        self.high.assign(keras.ops.maximum(self.high, keras.ops.max(predicted)))

    def result(self) -> Any:
        return {"low": self.low, "high": self.high + 0.0}


def without_weights() -> Model:
    model = keras.Sequential([keras.Input((5,)), layers.Rescaling(2.0), layers.Flatten()])
    return compile_(model, optimizer=None, loss="mse", metrics=["mae"])


def images() -> Model:
    model = keras.Sequential(
        [keras.Input((4,)), layers.Rescaling(1 / 9), layers.Dense(1, "sigmoid")]
    )
    return compile_(model, loss="binary_crossentropy")


def fixed_batch() -> Model:
    class NeedsBatchSize(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * float(x.shape[0])

    model = keras.Sequential([keras.Input((5,), batch_size=15), NeedsBatchSize(), layers.Dense(1)])
    return compile_(model, loss="mse", optimizer=keras.optimizers.SGD(1e-5))


def norms() -> Model:
    model = keras.Sequential([layers.Dense(8), layers.BatchNormalization(), layers.Dense(1)])
    return compile_(model, loss="mse")


def stop_at(hook: str, epoch: int = 1) -> keras.callbacks.Callback:
    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        pass

    def stop(self: Any, *arguments: Any, **_: Any) -> None:
        if not isinstance(arguments[0], int) or arguments[0] == epoch:
            self.model.stop_training = True

    setattr(Stop, hook, stop)
    return Stop()


def mixed() -> Model:
    policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu", dtype=policy)])
    model.add(layers.Dense(1, dtype="float32"))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01))
    return compile_(model, loss="mse", optimizer=optimizer)


@dataclass(frozen=True)
class Case:
    """One call of ``fit``: all examples, of which the last are for validation."""

    make: Callable[[], Model]
    x: Any
    y: Any = None
    sample_weight: Any = None
    validates_with: int = 2
    options: Callable[[], dict[str, Any]] = field(default=dict)

    def arguments(self) -> dict[str, Any]:
        train = {"x": self.x, "y": self.y, "sample_weight": self.sample_weight}
        arguments = {
            name: cut(nest, slice(TRAIN)) for name, nest in train.items() if nest is not None
        }
        held_out = [cut(nest, slice(TRAIN, None)) for nest in train.values()]
        if self.validates_with:
            arguments["validation_data"] = tuple(held_out[: self.validates_with])
        return {
            "epochs": 3, "batch_size": 32, "verbose": 0, "shuffle": False,
            **arguments, **self.options(),
        }  # fmt: skip


def cut(nest: Any, part: slice) -> Any:
    return None if nest is None else keras.tree.map_structure(lambda leaf: leaf[part], nest)


BOTH = {"a": A, "b": B}
TARGETS = {"label": BINARY, "size": NUMBER}
CASES = {
    # nests
    "dicts": Case(two_in_two_out, BOTH, TARGETS),
    "lists": Case(lambda: two_in_two_out(as_dict=False), [A, B], [BINARY, NUMBER]),
    "tuples": Case(lambda: two_in_two_out(as_dict=False), (A, B), (BINARY, NUMBER)),
    "list of inputs alone": Case(lambda: compile_(keras.Sequential([layers.Concatenate(), layers.Dense(1)]), loss="mse"), [A, B], NUMBER),
    "no labels": Case(autoencoder, A, validates_with=1),
    "x as its own label": Case(lambda: compile_(keras.Sequential([keras.Input((5,)), layers.Dense(5)]), loss="mse"), A, A),
    "no validation": Case(classifier, A, CLASSES, validates_with=0),
    "validation as a list": Case(classifier, A, CLASSES, options=lambda: {"validation_data": [A[TRAIN:], CLASSES[TRAIN:]]}),
    # what arrays consist of
    "float64": Case(regression, A.astype("float64"), NUMBER.astype("float64")),
    "float16": Case(regression, A.astype("float16"), NUMBER.astype("float16")),
    "uint8 that the model scales": Case(images, IDS.astype("uint8"), BINARY),
    "int8": Case(images, IDS.astype("int8"), BINARY.astype("int8")),
    "token ids int64": Case(tokens, IDS, BINARY),
    "token ids uint8": Case(tokens, IDS.astype("uint8"), BINARY),
    "bool labels": Case(binary, A, BINARY.astype(bool)),
    "bool inputs": Case(images, IDS > 4, BINARY),
    "float labels in a column": Case(binary, A, BINARY.astype("float64")[:, None]),
    "one-hot": Case(lambda: classifier(loss="categorical_crossentropy"), A, ONE_HOT),
    "strings": Case(text, WORDS, BINARY),
    "tensors of strings": Case(text, tf.constant(WORDS.tolist()), BINARY),
    "tensors": Case(regression, tf.constant(A), tf.constant(NUMBER)),
    "tensors of float64": Case(regression, tf.constant(A, "float64"), tf.constant(NUMBER)),
    "a table": Case(regression, pd.DataFrame(A.astype("float64")), pd.Series(NUMBER)),
    "not contiguous": Case(regression, np.asfortranarray(A), NUMBER[::-1]),
    # weights
    "sample weights": Case(lambda: binary(weighted_metrics=["mse"]), A, BINARY, WEIGHT, 3),
    "sample weights, validation without": Case(binary, A, BINARY, WEIGHT, 2),
    "sample weights of float64": Case(binary, A, BINARY, WEIGHT.astype("float64"), 3),
    "one weight for all outputs": Case(two_in_two_out, BOTH, TARGETS, WEIGHT),
    "a weight for each output": Case(two_in_two_out, BOTH, TARGETS, {"label": WEIGHT, "size": 1 - WEIGHT}, 3),
    "class weights": Case(lambda: binary(weighted_metrics=["mse"]), A, BINARY, options=lambda: {"class_weight": {0: 1.0, 1: 3.0}}),
    "class weights of one-hot": Case(lambda: classifier(loss="categorical_crossentropy"), A, ONE_HOT, options=lambda: {"class_weight": {0: 0.5, 2: 3.0}}),
    "class weights of a column": Case(classifier, A, CLASSES[:, None], options=lambda: {"class_weight": {1: 2.0}}),
    # metrics
    "F1Score, a vector": Case(lambda: classifier(loss="categorical_crossentropy", metrics=[keras.metrics.F1Score()]), A, ONE_HOT),
    "F1Score of one value": Case(lambda: classifier(loss="categorical_crossentropy", metrics=[keras.metrics.F1Score(average="macro")]), A, ONE_HOT),
    "a metric of several values": Case(lambda: binary(metrics=[Quantiles(), "accuracy"]), A, BINARY),
    "AUC and recall": Case(lambda: binary(metrics=[keras.metrics.AUC(), keras.metrics.Recall()]), A, BINARY),
    "a function": Case(lambda: regression(metrics=[lambda y, p: keras.ops.max(keras.ops.abs(y - p))]), A, NUMBER),
    # models
    "a subclass": Case(lambda: compile_(Subclassed(), loss="mse"), A, NUMBER),
    "a model without an input": Case(norms, A, NUMBER),
    "no optimizer": Case(without_weights, A, A),
    "mixed precision": Case(mixed, A, NUMBER),
    "a batch size that a layer asks for": Case(fixed_batch, A, NUMBER, validates_with=0, options=lambda: {"batch_size": 15}),
    "several steps in an execution": Case(lambda: regression(steps_per_execution=4), A, NUMBER),
    "an average of weights": Case(lambda: regression(optimizer=keras.optimizers.SGD(0.05, use_ema=True)), A, NUMBER),
    "Adam": Case(lambda: regression(optimizer="adam"), A, NUMBER),
    "Nadam": Case(lambda: regression(optimizer="nadam"), A, NUMBER),
    "regularised": Case(lambda: compile_(keras.Sequential([keras.Input((5,)), layers.Dense(1, kernel_regularizer="l2", activity_regularizer="l1")]), loss="mse"), A, NUMBER),
    # options
    "the default batch size": Case(regression, A, NUMBER, options=lambda: {"batch_size": None}),
    "a batch size for the validation": Case(norms, A, NUMBER, options=lambda: {"validation_batch_size": 7}),
    "a batch larger than all": Case(regression, A, NUMBER, options=lambda: {"batch_size": 1000}),
    "initial_epoch": Case(regression, A, NUMBER, options=lambda: {"initial_epoch": 1}),
    "no epoch left": Case(regression, A, NUMBER, options=lambda: {"initial_epoch": 3}),
    "validation_split": Case(regression, A, NUMBER, WEIGHT, 0, options=lambda: {"validation_split": 0.2}),
    "defaults said": Case(regression, A, NUMBER, options=lambda: {"validation_freq": 1, "steps_per_epoch": None}),
    "verbose": Case(regression, A, NUMBER, options=lambda: {"verbose": 1}),
    # callbacks
    "one callback, not a list": Case(regression, A, NUMBER, options=lambda: {"callbacks": keras.callbacks.ReduceLROnPlateau(patience=0, min_delta=9.0)}),
    "a tuple of callbacks": Case(regression, A, NUMBER, options=lambda: {"callbacks": (keras.callbacks.EarlyStopping(patience=0, min_delta=9.0, restore_best_weights=True),)}),
    "lists in a list": Case(regression, A, NUMBER, options=lambda: {"callbacks": [[keras.callbacks.LearningRateScheduler(lambda e: 0.1 / (e + 1))], []]}),
    "stopped when training begins": Case(regression, A, NUMBER, options=lambda: {"callbacks": [stop_at("on_train_begin")]}),
    "stopped when an epoch begins": Case(regression, A, NUMBER, options=lambda: {"callbacks": [stop_at("on_epoch_begin")]}),
    "stopped when a test begins": Case(regression, A, NUMBER, options=lambda: {"callbacks": [stop_at("on_test_begin")]}),
    "stopped when an epoch ends": Case(regression, A, NUMBER, options=lambda: {"callbacks": [stop_at("on_epoch_end")]}),
    "steps and a stop": Case(lambda: regression(steps_per_execution=2), A, NUMBER, options=lambda: {"callbacks": [stop_at("on_epoch_begin")]}),
    "a loss that is not a number": Case(lambda: regression(optimizer=keras.optimizers.SGD(1e30)), A, NUMBER, options=lambda: {"callbacks": [keras.callbacks.TerminateOnNaN()]}),
}  # fmt: skip


def train(case: Case, fast: bool) -> tuple[dict[str, list[Any]], list[Any]]:
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    model = case.make()
    arguments = case.arguments()
    if fast:
        assert fast_fit.obstacle(model, arguments) is None
        history = fast_fit.fit(model, seeds=(1,), **arguments)
    else:
        history = model.fit(**arguments)
    optimizer = [] if model.optimizer is None else model.optimizer.variables
    assert history is model.history
    return history.history, [each.numpy() for each in [*model.variables, *optimizer]]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_fast_fit_trains_to_what_keras_trains_to(name: str) -> None:
    (history, variables), (expected, theirs) = (train(CASES[name], fast) for fast in (True, False))
    assert list(history) == list(expected)
    for key, values in expected.items():
        assert [type(value) for value in history[key]] == [type(value) for value in values], key
        np.testing.assert_allclose(history[key], values, rtol=2e-4, atol=1e-6, err_msg=key)
    assert len(variables) == len(theirs)
    for mine, weight in zip(variables, theirs, strict=True):
        assert mine.dtype == weight.dtype
        if mine.dtype.kind != "O":
            np.testing.assert_allclose(mine, weight, rtol=2e-4, atol=1e-5)
