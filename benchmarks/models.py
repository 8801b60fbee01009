"""Models of several kinds, each with the data that it trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from orchestrator.training.base import Settings, Trial
from orchestrator.training.builtin.cnn import Cnn
from orchestrator.training.builtin.network import network
from orchestrator.training.data import Array, load
from orchestrator.training.rounds import Rounds, Split

if TYPE_CHECKING:
    import keras

_MLP = {
    "activation": "relu", "units": 256, "units_2": 40, "units_3": 40, "units_4": 32,
    "dropout": 0.1, "learning_rate": 0.001,
}  # fmt: skip
_CNN = {
    "blocks": 2, "filters": 16, "kernel": 3, "normalisation": True, "dropout": 0.2,
    "augmentation": False, "optimizer": "adam", "learning_rate": 0.001, "schedule": "constant",
    "batch_size": 32,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model to train, and on what.

    Attributes:
        build: makes the model, compiled; called after Keras's seeds are set.
        split: training and validation examples.
    """

    build: Callable[[], keras.Model]
    split: Split


def _mlp() -> Case:
    """The article's network on MNIST."""
    dataset = load("mnist")
    return Case(lambda: network(_MLP, dataset), Rounds(dataset, None, 0, 1)[0])


def _cnn() -> Case:
    """The objective ``cnn`` on a fifth of MNIST."""
    objective = Cnn(Settings())
    trial = cast(Trial, SimpleNamespace(params=_CNN))
    dataset = objective.dataset
    split = Split(
        dataset.x_train[:10_000], dataset.y_train[:10_000],
        validation_data=(dataset.x_train[-2_000:], dataset.y_train[-2_000:]),
    )  # fmt: skip
    return Case(lambda: objective.build(trial), split)


def _table() -> Case:
    """A regression on 16,000 rows of 8 numbers, as many as the houses of California."""
    x = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + np.sin(x[:, 2])

    def build() -> keras.Model:
        import keras

        layers = [keras.layers.Dense(64, activation="relu") for _ in range(2)]
        model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1)])
        model.compile("adam", "mse", metrics=["mae"])
        return model

    return Case(build, _held_out(x, y))


def _lstm() -> Case:
    """Whether the numbers of a sequence have a positive sum: 4,000 of 20 steps."""
    x = np.random.default_rng(0).normal(size=(5_000, 20, 8)).astype(np.float32)
    y = (x.sum(axis=(1, 2)) > 0).astype(np.float32)

    def build() -> keras.Model:
        import keras

        layers = [keras.layers.LSTM(32), keras.layers.Dense(1, activation="sigmoid")]
        model = keras.Sequential([keras.Input((20, 8)), *layers])
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        return model

    return Case(build, _held_out(x, y))


def _held_out(x: Array, y: Array) -> Split:
    """The last fifth validates."""
    cut = len(x) * 4 // 5
    return Split(x[:cut], y[:cut], validation_data=(x[cut:], y[cut:]))


CASES: dict[str, Callable[[], Case]] = {"mlp": _mlp, "cnn": _cnn, "table": _table, "lstm": _lstm}
