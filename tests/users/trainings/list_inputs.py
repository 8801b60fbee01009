"""Wide and deep: a list of two inputs."""

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers

METRIC, EPOCHS, PARAMS = "val_loss", 4, {"deep": 24, "l2": 0.001}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    wide = keras.Input(shape=(4,))
    deep = keras.Input(shape=(6,))
    x = layers.Dense(
        hp.Int("deep", 8, 40, step=16),
        activation="relu",
        kernel_regularizer=keras.regularizers.l2(hp.Choice("l2", [1e-3, 1e-4])),
    )(deep)
    x = layers.Dense(16, activation="relu")(x)
    out = layers.Dense(1)(layers.Concatenate()([wide, x]))
    model = keras.Model(inputs=[wide, deep], outputs=out)
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
    return model


def data():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(900, 4)), rng.normal(size=(900, 6))
    y = a[:, 0] + np.sin(b[:, 0])
    return {
        "x": [a[:700], b[:700]],
        "y": y[:700],
        "validation_data": ([a[700:], b[700:]], y[700:]),
        "shuffle": False,
    }
