"""The number of epochs is a hyperparameter of fit."""

import keras_tuner as kt
import numpy as np
from tensorflow import keras

METRIC, EPOCHS, PARAMS = "val_mae", 4, {"units": 16, "epochs": 3}
EXACT, FAST, CHECKPOINTS = True, True, False
TARGET = "MyHyperModel"


class MyHyperModel(kt.HyperModel):
    def build(self, hp):
        model = keras.Sequential([keras.layers.Input((3,))])
        model.add(keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"))
        model.add(keras.layers.Dense(1))
        model.compile(optimizer="adam", loss="mse", metrics=["mae"])
        return model

    def fit(self, hp, model, *args, **kwargs):
        kwargs["epochs"] = hp.Int("epochs", 2, 5)
        return model.fit(*args, **kwargs)


def data():
    rng = np.random.default_rng(21)
    x = rng.normal(size=(600, 3))
    y = np.abs(x).sum(axis=1)
    return {"x": x[:500], "y": y[:500], "validation_data": (x[500:], y[500:]), "shuffle": False}
