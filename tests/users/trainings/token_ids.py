"""Characters as bytes: uint8 token ids into an embedding."""

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"dim": 8, "rate": 0.2}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    inputs = keras.Input(shape=(24,), dtype="uint8")
    x = layers.Embedding(128, hp.Choice("dim", [4, 8, 16]))(inputs)
    x = layers.Conv1D(16, 3, activation="relu")(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dropout(hp.Float("rate", 0.0, 0.4, step=0.2))(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model(inputs, outputs)
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    return model


def data():
    rng = np.random.default_rng(11)
    y = rng.integers(0, 2, 1000)
    x = rng.integers(97, 123, size=(1000, 24))
    x[y == 1, 5:8] = [113, 117, 120]
    x = x.astype("uint8")
    return {"x": x[:800], "y": y[:800], "validation_data": (x[800:], y[800:]), "shuffle": False}
