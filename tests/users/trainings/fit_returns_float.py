"""As KerasTuner's guide has it: fit returns the value to minimise, computed with NumPy."""

import keras
import keras_tuner
import numpy as np
from keras import layers

METRIC, DIRECTION, EPOCHS, PARAMS = "mean_absolute_error", "minimize", 3, {"units": 16}
EXACT, FAST, CHECKPOINTS = True, True, False
TARGET = "HyperRegressor"


class HyperRegressor(keras_tuner.HyperModel):
    def build(self, hp):
        model = keras.Sequential(
            [
                layers.Dense(units=hp.Int("units", 8, 32, step=8), activation="relu"),
                layers.Dense(units=1),
            ]
        )
        model.compile(optimizer="adam", loss="mean_squared_error")
        return model

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        model.fit(x, y, shuffle=False, **kwargs)
        x_val, y_val = validation_data
        y_pred = model.predict(x_val, verbose=0)
        return np.mean(np.abs(y_pred - y_val))


def data():
    rng = np.random.default_rng(26)
    x, y = rng.random((500, 10)), rng.random((500, 1))
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:])}
