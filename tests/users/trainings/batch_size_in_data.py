"""search(x, y, batch_size=64, epochs=3, validation_data=...)."""

import numpy as np
from keras.layers import BatchNormalization, Dense, Input
from keras.models import Sequential

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"units": 24, "batch_norm": True}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    model = Sequential([Input((5,)), Dense(hp.Int("units", 8, 32, step=8), activation="relu")])
    if hp.Boolean("batch_norm"):
        model.add(BatchNormalization())
    model.add(Dense(2, activation="softmax"))
    model.compile("nadam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data():
    rng = np.random.default_rng(20)
    x = rng.normal(size=(1000, 5)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("uint8")
    return {
        "x": x[:800],
        "y": y[:800],
        "batch_size": 100,
        "validation_data": (x[800:], y[800:]),
        "validation_batch_size": 50,
        "shuffle": False,
    }
