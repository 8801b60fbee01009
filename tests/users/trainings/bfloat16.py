"""Everything in bfloat16, the weights too."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"units": 32}
EXACT, FAST, CHECKPOINTS = 0.1, True, True


def build_model(hp):
    keras.config.set_dtype_policy("bfloat16")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(hp.Int("units", 16, 64, step=16), activation="relu"),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def data():
    rng = np.random.default_rng(37)
    x = rng.normal(size=(600, 6)).astype("float32")
    y = (x[:, 0] > x[:, 1]).astype("int64")
    return {"x": x[:500], "y": y[:500], "validation_data": (x[500:], y[500:])}
