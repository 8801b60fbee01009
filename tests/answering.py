"""Models that answer in many ways, as ``build(hp)``, and the data of each."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops


def _hidden(hp: Any) -> layers.Layer:
    return layers.Dense(hp.Choice("units", [16, 32]), activation="relu")


def logits(hp: Any) -> keras.Model:
    """Digits: the last layer has no softmax."""
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), _hidden(hp), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def circles() -> tuple[Any, Any]:
    """Two labels, 0 and 1, by two numbers."""
    x = np.random.default_rng(0).normal(size=(600, 2)).astype("float32")
    y = (np.square(x).sum(axis=1) < 1.4).astype("int32")
    return (x[:450], y[:450]), (x[450:], y[450:])


def sigmoid(hp: Any) -> keras.Model:
    """Circles: one unit that says how likely 1 is."""
    model = keras.Sequential([keras.Input((2,)), _hidden(hp), layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy", metrics=["accuracy"])
    return model


def houses() -> dict[str, Any]:
    """A table, and prices; nothing is held out for a test."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    y = 40 * x[:, 0] + 12 * x[:, 1] * x[:, 2] + rng.normal(0, 3, 600) + 200
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:])}


def regression(hp: Any) -> keras.Model:
    """Houses: a number for each."""
    model = keras.Sequential([keras.Input((3,)), _hidden(hp), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model


def tags() -> dict[str, Any]:
    """Several labels may hold at once."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 6)).astype("float32")
    y = (x @ rng.normal(size=(6, 3)) > 0).astype("int32")
    return {"x": x, "y": y}


def multi_label(hp: Any) -> keras.Model:
    """Tags: a sigmoid for each."""
    model = keras.Sequential([keras.Input((6,)), _hidden(hp), layers.Dense(3, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["binary_accuracy"])
    return model


def tickets() -> dict[str, Any]:
    """Two inputs and two outputs by name."""
    rng = np.random.default_rng(7)
    x = {
        "title": rng.normal(size=(400, 5)).astype("float32"),
        "tags": rng.normal(size=(400, 2)).astype("float32"),
    }
    y = {"priority": x["title"].sum(axis=1), "department": (x["tags"][:, 0] > 0).astype(int)}
    return {"x": x, "y": y}


def two_outputs(hp: Any) -> keras.Model:
    """Tickets: a number and a class."""
    inputs = {"title": keras.Input((5,), name="title"), "tags": keras.Input((2,), name="tags")}
    x = _hidden(hp)(layers.concatenate(list(inputs.values())))
    outputs = {
        "priority": layers.Dense(1, name="p")(x),
        "department": layers.Dense(2, "softmax", name="d")(x),
    }
    model = keras.Model(inputs, outputs)
    losses = {"priority": "mse", "department": "sparse_categorical_crossentropy"}
    model.compile("adam", losses)
    return model


def pictures() -> dict[str, Any]:
    """Digits without labels."""
    from sklearn.datasets import load_digits

    x = (load_digits().images / 16).astype("float32")
    return {"x": x[:1500], "y": x[:1500], "test_data": (x[1500:], x[1500:])}


def autoencoder(hp: Any) -> keras.Model:
    """Pictures: the same picture comes out."""
    model = keras.Sequential(
        [
            keras.Input((8, 8)), layers.Flatten(), _hidden(hp), layers.Dense(64, "sigmoid"),
            layers.Reshape((8, 8)),
        ]
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


class VAE(keras.Model):  # type: ignore[misc]
    """It is given its parts, trains by a step of its own, and has no ``get_config``."""

    def __init__(self, encoder: keras.Model, decoder: keras.Model, beta: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.beta = encoder, decoder, beta
        self.noise = keras.random.SeedGenerator(1)
        self.total = keras.metrics.Mean(name="total_loss")

    @property
    def metrics(self) -> list[Any]:
        return [self.total]

    def call(self, x: Any) -> Any:
        return self.decoder(ops.split(self.encoder(x), 2, -1)[0])

    def loss_of(self, x: Any) -> Any:
        mean, log_var = ops.split(self.encoder(x), 2, -1)
        z = mean + ops.exp(log_var / 2) * keras.random.normal(ops.shape(mean), seed=self.noise)
        kl = -0.5 * ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), -1)
        return ops.mean(ops.sum(ops.square(x - self.decoder(z)), (1, 2)) + self.beta * kl)

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = self.loss_of(data[0])
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.total.update_state(loss)
        return {"total_loss": self.total.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        self.total.update_state(self.loss_of(data[0]))
        return {"total_loss": self.total.result()}


def vae(hp: Any) -> keras.Model:
    """Pictures, by :class:`VAE`."""
    size = hp.Choice("latent", [2, 8])
    encoder = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(2 * size)])
    decoder = keras.Sequential([keras.Input((size,)), layers.Dense(64), layers.Reshape((8, 8))])
    model = VAE(encoder, decoder, hp.Float("beta", 0.1, 1.0))
    model.compile(keras.optimizers.Adam(3e-3))
    model(np.zeros((1, 8, 8), "float32"))
    return model


class Net(keras.Model):  # type: ignore[misc]
    """A subclass without an Input, which Keras can save whole and not load alone."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.flat, self.hidden = layers.Flatten(), layers.Dense(units, activation="relu")
        self.norm, self.out = layers.BatchNormalization(), layers.Dense(10, activation="softmax")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(self.norm(self.hidden(self.flat(x)), training=training))


def subclassed(hp: Any) -> keras.Model:
    """Digits, by :class:`Net`."""
    model = Net(hp.Choice("units", [16, 32]))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def own_loss(hp: Any) -> keras.Model:
    """Houses, by a loss that Keras does not know."""

    def pinball(true: Any, predicted: Any) -> Any:
        off = true - predicted
        return ops.mean(ops.maximum(0.8 * off, -0.2 * off))

    model = regression(hp)
    model.compile(keras.optimizers.Adam(0.05), pinball)
    return model


def unlabelled() -> dict[str, Any]:
    """A table without labels."""
    x = np.random.default_rng(2).normal(size=(200, 4)).astype("float32")
    return {"x": x[:150], "validation_data": (x[150:], None)}


class Outlier(keras.Model):  # type: ignore[misc]
    """How unusual a row is, learnt without labels."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.hidden, self.score = layers.Dense(units, activation="tanh"), layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.score(self.hidden(x))

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        return ops.mean(ops.square(y_pred - ops.sum(ops.abs(x), -1, keepdims=True)))


def outlier(hp: Any) -> keras.Model:
    """Unlabelled, by :class:`Outlier`."""
    model = Outlier(hp.Choice("units", [8, 16]))
    model.compile("adam")
    return model
