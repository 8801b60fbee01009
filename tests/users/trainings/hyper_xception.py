"""KerasTuner's own HyperXception."""

import numpy as np
from keras_tuner.applications import HyperXception

METRIC, EPOCHS, TRIALS = "val_accuracy", 1, 1
PARAMS = {
    "activation": "relu",
    "conv2d_num_filters": 32,
    "kernel_size": 3,
    "initial_strides": 2,
    "sep_num_filters": 128,
    "num_residual_blocks": 2,
    "pooling": "avg",
    "num_dense_layers": 1,
    "dropout_rate": 0.1,
    "dense_use_bn": True,
    "learning_rate": 0.001,
}
EXACT, FAST, CHECKPOINTS = 0.5, True, False
TARGET = "hypermodel"

hypermodel = HyperXception(input_shape=(32, 32, 3), classes=3)


def data():
    rng = np.random.default_rng(42)
    labels = rng.integers(0, 3, 48)
    x = rng.normal(size=(48, 32, 32, 3)) + labels[:, None, None, None]
    y = np.eye(3)[labels]
    return {"x": x[:32], "y": y[:32], "validation_data": (x[32:], y[32:]), "batch_size": 16}
