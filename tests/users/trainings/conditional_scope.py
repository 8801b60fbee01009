"""Conditional hyperparameters and name scopes."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS = "val_accuracy", 3
PARAMS = {
    "model_type": "mlp",
    "mlp/units": 32,
    "mlp/second": True,
    "optimizer": "sgd",
    "momentum": 0.5,
}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    inputs = keras.Input((8, 8, 1))
    model_type = hp.Choice("model_type", ["mlp", "cnn"])
    with hp.conditional_scope("model_type", ["mlp"]):
        if model_type == "mlp":
            with hp.name_scope("mlp"):
                x = layers.Flatten()(inputs)
                x = layers.Dense(hp.Int("units", 16, 48, step=16), activation="relu")(x)
                if hp.Boolean("second"):
                    x = layers.Dense(16, activation="relu")(x)
    with hp.conditional_scope("model_type", ["cnn"]):
        if model_type == "cnn":
            with hp.name_scope("cnn"):
                x = layers.Conv2D(hp.Int("filters", 4, 8, step=4), 3, activation="relu")(inputs)
                x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(3, activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    if hp.Choice("optimizer", ["adam", "sgd"]) == "sgd":
        momentum = hp.Float("momentum", 0.0, 0.9, parent_name="optimizer", parent_values=["sgd"])
        optimizer = keras.optimizers.SGD(0.05, momentum=momentum)
    else:
        optimizer = keras.optimizers.Adam()
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data():
    rng = np.random.default_rng(44)
    y = rng.integers(0, 3, 500)
    x = rng.normal(size=(3, 8, 8, 1))[y] + rng.normal(0, 2, size=(500, 8, 8, 1))
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:]), "shuffle": False}
