"""What a model's output means: by its activation, its loss and the labels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from orchestrator.errors import DataError
from orchestrator.training.outputs import Output, images_of, read_outputs

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
ZERO_ONE = (X[:, 0] > 0).astype("int32")
COUNTED = (np.arange(40) % 4).astype("int64")


def head(units: int, activation: str | None, loss: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(units, activation)])
    model.compile("sgd", loss)
    return model


def read(model: keras.Model, y: Any, x: Any = X) -> Output:
    [output] = read_outputs(model, model.predict(x, verbose=0), x, y)
    return output


def softmax(raw: Any) -> Any:
    return np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_one_sigmoid_unit_says_zero_or_one(shape: tuple[int, ...]) -> None:
    model = head(1, "sigmoid", "binary_crossentropy")
    output = read(model, ZERO_ONE.reshape(shape))
    ones = model.predict(X, verbose=0)[:, 0]
    assert output.kind == "classes"
    assert (output.predicted == (ones >= 0.5)).all()
    assert set(output.predicted) == {0, 1}
    assert output.probability == pytest.approx(np.maximum(ones, 1 - ones))
    assert output.true is not None and (output.true == ZERO_ONE).all()


@pytest.mark.parametrize("loss", [keras.losses.BinaryCrossentropy(from_logits=True), None])
def test_one_logit_says_zero_or_one(loss: Any) -> None:
    model = head(1, None, loss)
    output = read(model, ZERO_ONE)
    logit = model.predict(X, verbose=0)[:, 0]
    assert (output.predicted == (logit >= 0)).all()
    assert output.probability == pytest.approx(1 / (1 + np.exp(-np.abs(logit))), rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "from_logits"), [("softmax", False), (None, True), (None, False)]
)
def test_classes_have_probabilities_that_sum_to_one(
    activation: str | None, from_logits: bool
) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model = head(4, activation, loss)
    output = read(model, COUNTED)
    raw = model.predict(X, verbose=0)
    wanted = raw if activation else softmax(raw)
    assert output.kind == "classes"
    assert output.probability == pytest.approx(wanted.max(axis=1), rel=1e-5)
    assert (output.predicted == raw.argmax(axis=1)).all()


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse", "binary_crossentropy"])
def test_one_hot_labels_are_classes(loss: str) -> None:
    output = read(head(4, "softmax", loss), np.eye(4, dtype="float32")[COUNTED])
    assert output.kind == "classes"
    assert output.true is not None and (output.true == COUNTED).all()


def test_several_sigmoids_are_labels() -> None:
    model = head(3, "sigmoid", "binary_crossentropy")
    y = (X > 0).astype(bool)
    output = read(model, y)
    assert output.kind == "labels"
    assert (output.predicted == (model.predict(X, verbose=0) >= 0.5)).all()
    assert output.true is not None and (output.true == y).all()


@pytest.mark.parametrize(
    ("units", "activation", "loss", "y"),
    [
        (1, None, "mse", X[:, 0]),
        (1, None, "mae", COUNTED),  # whole numbers are no classes of one linear unit
        (1, "sigmoid", keras.losses.Huber(), X[:, 0]),
        (2, None, "mse", X[:, :2]),
        (3, None, "mean_absolute_error", X[:, 0]),  # quantiles
        (1, "sigmoid", "binary_crossentropy", np.linspace(0, 1, 40)),  # soft labels
    ],
)
def test_numbers_stay_beside_the_true_ones(
    units: int, activation: str | None, loss: Any, y: Any
) -> None:
    model = head(units, activation, loss)
    output = read(model, y)
    assert output.kind == "numbers"
    assert (output.predicted == model.predict(X, verbose=0)).all()
    assert output.true is not None and output.true.shape == output.predicted.shape
    assert (output.true[:, 0] == y.reshape(40, -1)[:, 0]).all()


def test_a_model_that_returns_its_input_is_compared_with_it() -> None:
    pictures = np.random.default_rng(0).random((5, 8, 8, 1)).astype("float32")
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(1, 3, padding="same")])
    output = read(model, None, pictures)  # compiled or not, with labels or without
    assert output.kind == "images" and output.predicted.shape == (5, 8, 8)
    assert output.true is not None and (output.true == pictures[..., 0]).all()
    assert read(head(3, None, None), None).kind == "numbers"


def test_masks_are_images_of_the_likeliest_class() -> None:
    pictures = np.random.default_rng(0).random((5, 8, 8, 1)).astype("float32")
    masks = (pictures > 0.5).astype("uint8")
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", activation="softmax")(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy")
    output = read(model, masks, pictures)
    assert (output.predicted == model.predict(pictures, verbose=0).argmax(-1)).all()
    assert output.true is not None and (output.true == masks[..., 0]).all()


def test_outputs_by_name_have_their_own_loss_and_labels() -> None:
    inputs = keras.Input((3,))
    outputs = {
        "price": layers.Dense(1, name="a")(inputs),
        "kind": layers.Dense(4, name="b")(inputs),
    }
    model = keras.Model(inputs, outputs)
    losses = {"price": "mse", "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    model.compile("sgd", losses)
    raw = model.predict(X, verbose=0)
    price, kind = sorted(
        read_outputs(model, raw, X, {"price": X[:, 0], "kind": COUNTED}),
        key=lambda each: str(each.name),
        reverse=True,
    )
    assert (price.name, price.kind, kind.name, kind.kind) == ("price", "numbers", "kind", "classes")
    assert kind.probability == pytest.approx(softmax(raw["kind"]).max(axis=1), rel=1e-5)


def test_an_output_that_nobody_can_show_says_its_shape() -> None:
    model = keras.Sequential(
        [keras.Input((6, 3)), layers.Dense(4, "softmax")]
    )  # a class at each of six steps
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.zeros((5, 6, 3), "float32")
    with pytest.raises(DataError, match=r"the model's output has the shape \(6, 4\)"):
        read(model, np.zeros((5, 6), int), x)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((2, 8, 8), (2, 8, 8)),
        ((2, 28, 28, 1), (2, 28, 28)),
        ((2, 32, 32, 3), (2, 32, 32, 3)),
        ((2, 3, 32, 32), (2, 32, 32, 3)),
        ((2, 784), (2, 28, 28)),
        ((2, 64), None),
        ((2, 12, 1), None),
    ],
)
def test_images_are_told_from_tables_and_series(
    shape: tuple[int, ...], wanted: tuple[int, ...] | None
) -> None:
    found = images_of(np.zeros(shape))
    assert (None if found is None else found.shape) == wanted
