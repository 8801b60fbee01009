"""KerasTuner's own HyperResNet."""

import numpy as np
from keras_tuner.applications import HyperResNet

METRIC, EPOCHS, TRIALS = "val_accuracy", 1, 1
PARAMS = {
    "version": "v1",
    "conv3_depth": 4,
    "conv4_depth": 6,
    "pooling": "avg",
    "optimizer": "sgd",
    "learning_rate": 0.01,
}
EXACT, FAST, CHECKPOINTS = 0.5, True, False
TARGET = "hypermodel"

hypermodel = HyperResNet(input_shape=(32, 32, 3), classes=3)


def data():
    rng = np.random.default_rng(41)
    labels = rng.integers(0, 3, 48)
    x = rng.normal(size=(48, 32, 32, 3)) + labels[:, None, None, None]
    y = np.eye(3)[labels]
    return {"x": x[:32], "y": y[:32], "validation_data": (x[32:], y[32:]), "batch_size": 16}
