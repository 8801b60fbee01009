"""A HyperModel class with constructor arguments, made once at the module's end."""

import numpy as np
from keras_tuner import HyperModel
from tensorflow import keras
from tensorflow.keras import layers

METRIC, EPOCHS = "val_accuracy", 2
PARAMS = {"num_filters": 8, "dense_activation": "relu", "learning_rate": 0.005}
EXACT, FAST, CHECKPOINTS = True, True, False
TARGET = "hypermodel"


class CNNHyperModel(HyperModel):
    def __init__(self, input_shape, num_classes):
        self.input_shape = input_shape
        self.num_classes = num_classes

    def build(self, hp):
        model = keras.Sequential()
        model.add(
            layers.Conv2D(
                filters=hp.Choice("num_filters", values=[8, 16], default=16),
                kernel_size=3,
                activation="relu",
                input_shape=self.input_shape,
            )
        )
        model.add(layers.MaxPooling2D(pool_size=2))
        model.add(layers.Flatten())
        model.add(
            layers.Dense(
                16,
                activation=hp.Choice(
                    "dense_activation", values=["relu", "tanh", "sigmoid"], default="relu"
                ),
            )
        )
        model.add(layers.Dense(self.num_classes, activation="softmax"))
        model.compile(
            optimizer=keras.optimizers.Adam(
                hp.Float(
                    "learning_rate", min_value=1e-4, max_value=1e-2, sampling="LOG", default=1e-3
                )
            ),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model


hypermodel = CNNHyperModel(input_shape=(10, 10, 1), num_classes=3)


def data():
    rng = np.random.default_rng(40)
    y = rng.integers(0, 3, 400)
    x = rng.normal(0, 0.5, size=(400, 10, 10, 1)) + y[:, None, None, None]
    return {"x": x[:320], "y": y[:320], "validation_data": (x[320:], y[320:]), "shuffle": False}
