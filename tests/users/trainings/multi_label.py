"""Tags of articles: several labels can hold at once."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS, PARAMS = "val_binary_accuracy", 3, {"units": 32, "optimizer": "adam"}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(hp.Int("units", 16, 64, step=16), activation="relu"),
            layers.Dense(5, activation="sigmoid"),
        ]
    )
    model.compile(
        optimizer=hp.Choice("optimizer", ["adam", "rmsprop"]),
        loss="binary_crossentropy",
        metrics=["binary_accuracy"],
    )
    return model


def data():
    rng = np.random.default_rng(4)
    words = rng.poisson(1.0, size=(1000, 12)).astype("float32")
    tags = (words @ rng.normal(size=(12, 5)) > 0).astype("int32")
    return {"x": words, "y": tags, "shuffle": False}
