"""search(..., callbacks=[EarlyStopping(patience=2, restore_best_weights=True)])."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

METRIC, EPOCHS, PARAMS = "val_loss", 12, {"units": 128, "learning_rate": 0.01}
EXACT, FAST, CHECKPOINTS = True, True, True


def build_model(hp):
    model = keras.Sequential()
    model.add(keras.layers.Flatten(input_shape=(4, 4)))
    model.add(keras.layers.Dense(hp.Int("units", 32, 128, step=32), activation="relu"))
    model.add(keras.layers.Dense(3, activation="softmax"))
    model.compile(
        optimizer=keras.optimizers.Adam(hp.Choice("learning_rate", [0.03, 0.01])),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


stop_early = tf.keras.callbacks.EarlyStopping(
    monitor="val_loss", patience=2, restore_best_weights=True
)


def data():
    rng = np.random.default_rng(19)
    y = rng.integers(0, 3, 400)
    x = rng.normal(size=(3, 4, 4))[y] * 0.5 + rng.normal(size=(400, 4, 4))
    return {
        "x": x[:300],
        "y": y[:300],
        "validation_data": (x[300:], y[300:]),
        "callbacks": [stop_early],
        "shuffle": False,
    }
