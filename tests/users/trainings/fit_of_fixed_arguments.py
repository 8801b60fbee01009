"""A fit that lists its arguments: no *args, no **kwargs."""

import keras
import keras_tuner as kt
import numpy as np

METRIC, EPOCHS, PARAMS = "val_loss", 5, {"units": 16, "batch_size": 64}
EXACT, FAST, CHECKPOINTS = 0.3, True, True
TARGET = "Regression"


class Regression(kt.HyperModel):
    def build(self, hp):
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"),
                keras.layers.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        return model

    def fit(self, hp, model, x, y, validation_data, epochs, verbose, callbacks):
        return model.fit(
            x,
            y,
            batch_size=hp.Choice("batch_size", [32, 64]),
            validation_data=validation_data,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
        )


def data():
    rng = np.random.default_rng(23)
    x = rng.normal(size=(900, 4))
    y = x @ [1.0, -2.0, 0.5, 0.0] + 1
    return {"x": x[:700], "y": y[:700], "validation_data": (x[700:], y[700:])}
