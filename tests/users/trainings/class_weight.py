"""Fraud: few positives, which count more by class_weight."""

import keras
import numpy as np

METRIC, DIRECTION, EPOCHS, PARAMS = "val_pr_auc", "maximize", 4, {"units": 16, "dropout": 0.3}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(hp.Int("units", 16, 64, step=16), activation="relu"),
            keras.layers.Dropout(hp.Float("dropout", 0.1, 0.5, step=0.1)),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss="binary_crossentropy",
        metrics=[
            keras.metrics.FalseNegatives(name="fn"),
            keras.metrics.Precision(name="precision"),
            keras.metrics.Recall(name="recall"),
            keras.metrics.AUC(name="pr_auc", curve="PR"),
        ],
    )
    return model


def data():
    rng = np.random.default_rng(17)
    targets = (rng.random((1500, 1)) < 0.05).astype("uint8")
    features = rng.normal(size=(1500, 10)).astype("float32") + targets
    train, val = slice(1200), slice(1200, None)
    counts = np.bincount(targets[train, 0])
    return {
        "x": features[train],
        "y": targets[train],
        "batch_size": 256,
        "validation_data": (features[val], targets[val]),
        "class_weight": {0: 1.0 / counts[0], 1: 1.0 / counts[1]},
        "shuffle": False,
    }
