"""The batch size and a normalisation of the inputs are hyperparameters of fit."""

import keras
import keras_tuner
import numpy as np
from keras import layers

METRIC, EPOCHS = "val_accuracy", 4
PARAMS = {"units": 32, "normalize": True, "batch_size": 16, "shuffle": False}
EXACT, FAST, CHECKPOINTS = True, True, True
TARGET = "TunedFit"


class TunedFit(keras_tuner.HyperModel):
    def build(self, hp):
        model = keras.Sequential([layers.Flatten()])
        model.add(layers.Dense(hp.Int("units", 16, 64, step=16), activation="relu"))
        model.add(layers.Dense(4, activation="softmax"))
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, **kwargs):
        if hp.Boolean("normalize"):
            x = layers.Normalization()(x)
        return model.fit(
            x,
            y,
            batch_size=hp.Choice("batch_size", [16, 32, 64]),
            shuffle=hp.Boolean("shuffle"),
            **kwargs,
        )


def data():
    rng = np.random.default_rng(22)
    labels = rng.integers(0, 4, 600)
    x = rng.normal(size=(4, 6))[labels] + rng.normal(size=(600, 6))
    y = keras.utils.to_categorical(labels, 4)
    x, y = x.astype("float32"), y.astype("float32")
    return {"x": x[:500], "y": y[:500], "validation_data": (x[500:], y[500:])}
