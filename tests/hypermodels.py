"""KerasTuner hypermodels, as its users write them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def build_model(hp: Any) -> keras.Model:
    units = hp.Int("units", 8, 64, step=8)
    kind = hp.Choice("kind", ["mlp", "wide"])
    with hp.name_scope("head"):
        rate = hp.Float("dropout", 0.0, 0.4, step=0.1)
    layers: list[Any] = [keras.Input((8, 8)), keras.layers.Flatten()]
    with hp.conditional_scope("kind", ["mlp"]):
        second = hp.Int("second", 8, 32, sampling="log")
    if hp.get("kind") == "mlp":
        layers += [keras.layers.Dense(units, activation="relu"), keras.layers.Dense(second)]
    else:
        wide = hp.Choice("wide", [64, 128], parent_name="kind", parent_values=["wide"])
        layers += [keras.layers.Dense(wide, activation="relu")]
    layers += [keras.layers.Dropout(rate), keras.layers.Dense(10, activation="softmax")]
    assert hp.Int("units", 8, 64, step=8) == units and kind in ("mlp", "wide")
    model = keras.Sequential(layers)
    model.compile(
        keras.optimizers.Adam(hp.Float("learning_rate", 1e-3, 1e-2, sampling="log")),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


class WithFit:
    """A HyperModel by its methods; its fit chooses the batch size, and returns a number."""

    def build(self, hp: Any) -> keras.Model:
        return build_model(hp)

    def fit(self, hp: Any, model: keras.Model, *args: Any, **kwargs: Any) -> float:
        batch_size = hp.Choice("batch_size", [64, 128])
        history = model.fit(*args, batch_size=batch_size, **kwargs)
        return float(max(history.history["val_accuracy"]))


def is_keras_tuners(hp: Any) -> keras.Model:
    """Fails where its argument is not of KerasTuner's own class."""
    import keras_tuner

    assert isinstance(hp, keras_tuner.HyperParameters)
    return build_model(hp)


def without_input(hp: Any) -> keras.Model:
    """Keras builds it when the first data come."""
    model = keras.Sequential([keras.layers.Flatten()])
    model.add(keras.layers.Dense(hp.Int("units", 8, 64), activation="relu"))
    model.add(keras.layers.Dropout(0.2))
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def uncompiled(hp: Any) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten()])


class Gap(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds a metric of its own to the logs."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        logs["gap"] = logs["val_loss"] - logs["loss"]


def with_gap() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 200)
    return {"x": rng.random((200, 8, 8), np.float32), "y": y, "callbacks": [Gap()]}
