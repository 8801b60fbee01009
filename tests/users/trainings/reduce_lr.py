"""ReduceLROnPlateau and EarlyStopping beside it, given to search()."""

import numpy as np
from tensorflow import keras
from tensorflow.keras.callbacks import EarlyStopping, ReduceLROnPlateau

METRIC, EPOCHS, PARAMS = "val_mae", 8, {"units": 16}
EXACT, FAST, CHECKPOINTS = True, True, True


def build_model(hp):
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse", metrics=["mae"])
    return model


def data():
    rng = np.random.default_rng(30)
    x = rng.normal(size=(400, 4)).astype("float32")
    y = (x[:, 0] + rng.normal(0, 1, 400)).astype("float32")
    return {
        "x": x[:300],
        "y": y[:300],
        "validation_data": (x[300:], y[300:]),
        "callbacks": [
            ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_delta=0.05),
            EarlyStopping(monitor="val_loss", patience=5, min_delta=0.05),
        ],
        "shuffle": False,
    }
