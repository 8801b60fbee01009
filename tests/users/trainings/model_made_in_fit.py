"""A fit that makes its model anew by a function of the module, e.g. once the data are known."""

import keras
import keras_tuner as kt
import numpy as np

METRIC, EPOCHS, PARAMS = "val_mae", 4, {"units": 16, "learning_rate": 0.01}
EXACT, FAST, CHECKPOINTS = True, True, True
TARGET = "Late"


def make_model(inputs, units, rate):
    model = keras.Sequential([keras.Input((inputs,))])
    model.add(keras.layers.Dense(units, activation="relu"))
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae"])
    return model


class Late(kt.HyperModel):
    def build(self, hp):
        return make_model(
            3, hp.Int("units", 8, 32, step=8), hp.Choice("learning_rate", [1e-2, 1e-3])
        )

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        keras.utils.set_random_seed(5)
        x_val, y_val = validation_data
        x, x_val = np.hstack([x, x[:, :1] ** 2]), np.hstack([x_val, x_val[:, :1] ** 2])
        model = make_model(x.shape[1], hp.get("units"), hp.get("learning_rate"))
        return model.fit(x, y, validation_data=(x_val, y_val), shuffle=False, **kwargs)


def data():
    rng = np.random.default_rng(31)
    x = rng.normal(size=(400, 3))
    y = x[:, 0] ** 2 + x.sum(axis=1)
    return {"x": x[:300], "y": y[:300], "validation_data": (x[300:], y[300:])}
