"""One-hot labels with label smoothing."""

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers
from tensorflow.keras.utils import to_categorical

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"num_layers": 2, "units_0": 32, "units_1": 16}
EXACT, FAST, CHECKPOINTS = True, True, True


def build_model(hp):
    model = keras.Sequential()
    model.add(keras.Input(shape=(8,)))
    for i in range(hp.Int("num_layers", 1, 3)):
        model.add(layers.Dense(hp.Int(f"units_{i}", 16, 64, step=16), activation="relu"))
    model.add(layers.Dense(3, activation="softmax"))
    model.compile(
        optimizer="adam",
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy"],
    )
    return model


def data():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 8)).astype("float32")
    y = to_categorical(np.argmax(x[:, :3], axis=1), num_classes=3)
    return {
        "x": x[:1200],
        "y": y[:1200],
        "validation_data": (x[1200:], y[1200:]),
        "batch_size": 64,
        "shuffle": False,
    }
