"""Transfer learning: train the head on a frozen base, then thaw it, compile anew, go on slowly."""

import keras
import keras_tuner as kt
import numpy as np
from keras import layers

METRIC, EPOCHS = "val_accuracy", 3
PARAMS = {"head": 16, "fine_tuning_rate": 0.001}
EXACT, FAST, CHECKPOINTS = True, True, True
TARGET = "FineTuned"


def pretrained():
    """Stands for a network of keras.applications."""
    base = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(6, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ],
        name="base",
    )
    rng = np.random.default_rng(0)
    base.set_weights([np.abs(rng.normal(0.2, 0.3, w.shape)) for w in base.get_weights()])
    return base


class FineTuned(kt.HyperModel):
    def build(self, hp):
        base = pretrained()
        base.trainable = False
        inputs = keras.Input((12, 12, 1))
        x = base(inputs, training=False)
        x = layers.Dense(hp.Int("head", 8, 32, step=8), activation="relu")(x)
        model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
        model.compile(
            keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model

    def fit(self, hp, model, *args, **kwargs):
        model.fit(*args, **kwargs)
        model.get_layer("base").trainable = True
        rate = hp.Choice("fine_tuning_rate", [1e-3, 1e-4])
        model.compile(
            keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model.fit(*args, **kwargs)


def data():
    rng = np.random.default_rng(29)
    y = rng.integers(0, 3, 500)
    x = rng.normal(0, 0.3, size=(500, 12, 12, 1)) + y[:, None, None, None]
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:]), "shuffle": False}
