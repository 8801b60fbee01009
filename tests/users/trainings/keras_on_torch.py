"""Keras on PyTorch."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

METRIC, EPOCHS, PARAMS = "val_loss", 4, {"units": 16}
EXACT, FAST, CHECKPOINTS = True, False, True
NEEDS = "torch"


def build_model(hp):
    model = keras.Sequential([keras.Input((4,))])
    model.add(keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"))
    model.add(keras.layers.Dense(1))
    model.compile("adam", "mse")
    return model


def data():
    rng = np.random.default_rng(46)
    x = rng.normal(size=(500, 4)).astype("float32")
    y = x[:, 0] ** 2
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:]), "shuffle": False}
