"""A fit that always trains five epochs, whatever it is asked for."""

import keras_tuner as kt
import numpy as np
import tensorflow as tf

METRIC, EPOCHS, PARAMS = "val_accuracy", 5, {"units": 16}
EXACT, FAST, CHECKPOINTS = True, True, True
TARGET = "Classifier"


class Classifier(kt.HyperModel):
    def build(self, hp):
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Input((4,)),
                tf.keras.layers.Dense(hp.Int("units", 8, 32, 8), activation="relu"),
                tf.keras.layers.Dense(3, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, validation_data=None, callbacks=None, **kwargs):
        return model.fit(
            x,
            y,
            epochs=5,
            validation_data=validation_data,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )


def data():
    rng = np.random.default_rng(24)
    x = rng.normal(size=(700, 4)).astype("float32")
    y = np.digitize(x[:, 0] + x[:, 1], [-0.7, 0.7])
    return {"x": x[:560], "y": y[:560], "validation_data": (x[560:], y[560:])}
