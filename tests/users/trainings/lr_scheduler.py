"""LearningRateScheduler with the usual exponential decay after some epochs."""

import keras
import numpy as np
from keras import ops

METRIC, EPOCHS, PARAMS = "val_loss", 6, {"units": 16}
EXACT, FAST, CHECKPOINTS = True, True, True


def scheduler(epoch, lr):
    if epoch < 2:
        return lr
    return float(lr * ops.exp(-0.3))


def build_model(hp):
    model = keras.Sequential([keras.Input((4,))])
    model.add(keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"))
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.05), loss="mse")
    return model


def data():
    rng = np.random.default_rng(31)
    x = rng.normal(size=(500, 4)).astype("float32")
    y = np.tanh(x[:, 0]).astype("float32")
    return {
        "x": x[:400],
        "y": y[:400],
        "validation_data": (x[400:], y[400:]),
        "callbacks": [keras.callbacks.LearningRateScheduler(scheduler)],
        "shuffle": False,
    }
