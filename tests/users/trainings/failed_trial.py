"""A build that refuses models that are too large, by FailedTrialError."""

import keras
import keras_tuner
import numpy as np
from keras import layers

METRIC, EPOCHS, PARAMS = "val_loss", 3, {"num_layers": 1, "units": 8}
EXACT, FAST, CHECKPOINTS = True, True, False
FAILS = {"num_layers": 3, "units": 32}


def build_model(hp):
    model = keras.Sequential([keras.Input((10,))])
    for _ in range(hp.Int("num_layers", 1, 3)):
        model.add(layers.Dense(hp.Choice("units", [8, 16, 32]), activation="relu"))
    model.add(layers.Dense(1))
    model.compile(loss="mse", optimizer="adam")
    if model.count_params() > 2000:
        raise keras_tuner.errors.FailedTrialError(
            f"Model too large! It contains {model.count_params()} params."
        )
    return model


def data():
    rng = np.random.default_rng(43)
    x, y = rng.random((300, 10)), rng.random((300, 1))
    return {"x": x[:240], "y": y[:240], "validation_data": (x[240:], y[240:]), "shuffle": False}
