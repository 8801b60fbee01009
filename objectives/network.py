"""The multilayer perceptron of the MNIST objective, from its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.objective import Array, Dataset

if TYPE_CHECKING:
    import keras

OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw", "nadam", "adagrad", "adadelta", "adamax")
INITIALIZERS = (
    "uniform",
    "lecun_uniform",
    "normal",
    "zero",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
)
MOST_LAYERS = 8
_MOMENTUM = ("sgd", "rmsprop")
_KERAS_NAMES = {"uniform": "random_uniform", "normal": "random_normal", "zero": "zeros"}
_CLASSES = {"sgd": "SGD", "rmsprop": "RMSprop", "adamw": "AdamW"}


def has_momentum(params: Mapping[str, Any]) -> bool:
    """Whether the optimizer has a momentum of its own."""
    return params.get("optimizer", "adam") in _MOMENTUM


def hidden_layers(params: Mapping[str, Any]) -> int:
    """How many hidden layers there are: the article's four unless ``layers`` is searched."""
    return int(params.get("layers", 4))


def network(params: Mapping[str, Any], dataset: Dataset) -> keras.Model:
    """The compiled network.

    Args:
        params: one value for each active parameter of the objective; those of its catalogue may be
            missing, and are then the article's.
        dataset: gives the shape of an example and the number of classes.

    Returns:
        A model from images, shape (batch, *image), to class probabilities, shape (batch, classes).
    """
    import keras

    layers = keras.layers
    model = keras.Sequential([keras.Input(dataset.x_train.shape[1:]), layers.Flatten()])
    if params.get("normalisation", False):
        mean, variance = _mean_and_variance(dataset.x_train)
        model.add(layers.Normalization(axis=None, mean=mean, variance=variance))
    if params.get("visible_dropout"):
        model.add(layers.Dropout(float(params["visible_dropout"])))
    units = int(params["units"])
    for layer in range(1, hidden_layers(params) + 1):
        if layer > 1:
            # Where more layers are asked for than there are widths: as wide as the last.
            units = int(params.get(f"units_{layer}", units))
        model.add(_dense(units, params))
        # The article's network drops out after its wide layer alone.
        rate = params["dropout"] if layer == 1 else params.get("hidden_dropout", 0.0)
        if layer == 1 or rate:
            model.add(layers.Dropout(float(rate)))
    model.add(layers.Dense(dataset.classes, activation="softmax"))
    model.compile(
        optimizer=_optimizer(params),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def _mean_and_variance(images: Array) -> tuple[float, float]:
    """Of all pixels of the training images, as they reach the model."""
    # Image by image: whole-set intermediates in float64 would be eight times the data.
    pixels = [image.astype(np.float32) for image in images]
    mean = float(np.array([image.mean() for image in pixels]).mean())
    squares = np.array([np.square(image).mean() for image in pixels])
    return mean, float(squares.mean()) - mean**2


def _dense(units: int, params: Mapping[str, Any]) -> keras.layers.Layer:
    import keras

    initializer = str(params.get("initializer", "glorot_uniform"))
    norm = params.get("max_norm")
    return keras.layers.Dense(
        units,
        activation=params["activation"],
        kernel_initializer=_KERAS_NAMES.get(initializer, initializer),
        kernel_constraint=None if norm is None else keras.constraints.MaxNorm(float(norm)),
    )


def _optimizer(params: Mapping[str, Any]) -> keras.optimizers.Optimizer:
    import keras

    name = str(params.get("optimizer", "adam"))
    cls = getattr(keras.optimizers, _CLASSES.get(name, name.capitalize()))
    momentum = {"momentum": float(params.get("momentum", 0.0))} if name in _MOMENTUM else {}
    return cls(learning_rate=float(params["learning_rate"]), **momentum)
