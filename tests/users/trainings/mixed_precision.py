"""Mixed precision: float16 in the layers, the loss scaled."""

import keras
from keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"units": 64}
EXACT, FAST, CHECKPOINTS = 0.1, True, True
DATA = "digits"

keras.mixed_precision.set_global_policy("mixed_float16")


def build_model(hp):
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Flatten(),
            layers.Dense(hp.Int("units", 32, 96, step=32), activation="relu"),
            layers.Dense(10),
            layers.Activation("softmax", dtype="float32"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
