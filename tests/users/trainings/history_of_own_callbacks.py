"""A fit with a stop of its own: it does not pass on the callbacks that it is given."""

import keras
import keras_tuner as kt
import numpy as np

METRIC, EPOCHS, PARAMS = "val_accuracy", 8, {"units": 32}
EXACT, FAST, CHECKPOINTS = True, True, False
TARGET = "OwnStop"


class OwnStop(kt.HyperModel):
    def build(self, hp):
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(hp.Int("units", 16, 64, 16), activation="relu"),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        return model.fit(
            x,
            y,
            validation_data=validation_data,
            epochs=8,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.01)],
        )


def data():
    rng = np.random.default_rng(27)
    x = rng.normal(size=(500, 5))
    y = (x[:, 0] > 0).astype("float32")
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:])}
