"""As most blog posts search: search(x, y, epochs=5, validation_split=0.2)."""

import numpy as np
import tensorflow as tf

METRIC, EPOCHS, PARAMS = "val_accuracy", 3, {"units": 64, "learning_rate": 0.001}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    model = tf.keras.Sequential()
    model.add(tf.keras.layers.Flatten(input_shape=(8, 8)))
    hp_units = hp.Int("units", min_value=32, max_value=128, step=32)
    model.add(tf.keras.layers.Dense(units=hp_units, activation="relu"))
    model.add(tf.keras.layers.Dense(10))
    hp_learning_rate = hp.Choice("learning_rate", values=[1e-2, 1e-3, 1e-4])
    model.compile(
        optimizer=tf.keras.optimizers.Adam(learning_rate=hp_learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def data():
    rng = np.random.default_rng(6)
    y = rng.integers(0, 10, 1000)
    x = rng.normal(size=(10, 8, 8))[y] + rng.normal(size=(1000, 8, 8))
    return {"x": x, "y": y, "validation_split": 0.2, "shuffle": False}
