"""A callback of one's own: it counts, and lowers the learning rate when its patience ends."""

import keras
import numpy as np

METRIC, EPOCHS, PARAMS = "val_loss", 7, {"units": 16}
EXACT, FAST, CHECKPOINTS = True, True, True


class Cooling(keras.callbacks.Callback):
    def __init__(self, patience=2, factor=0.5):
        super().__init__()
        self.patience = patience
        self.factor = factor
        self.best = np.inf
        self.wait = 0
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(logs["val_loss"])
        if logs["val_loss"] < self.best - 0.5:
            self.best = logs["val_loss"]
            self.wait = 0
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.model.optimizer.learning_rate = (
                float(self.model.optimizer.learning_rate) * self.factor
            )
            self.wait = 0


def build_model(hp):
    model = keras.Sequential([keras.Input((4,))])
    model.add(keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"))
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(0.02), loss="mse")
    return model


def data():
    rng = np.random.default_rng(33)
    x = rng.normal(size=(500, 4)).astype("float32")
    y = (x[:, 0] * x[:, 1]).astype("float32")
    return {
        "x": x[:400],
        "y": y[:400],
        "validation_data": (x[400:], y[400:]),
        "callbacks": [Cooling()],
        "shuffle": False,
    }
