"""Churn, yes or no: the labels are Python's booleans."""

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers

METRIC, DIRECTION, EPOCHS, PARAMS = "val_auc", "maximize", 3, {"units": 16, "dropout": 0.0}
EXACT, FAST, CHECKPOINTS = True, True, False


def build_model(hp):
    model = keras.Sequential()
    model.add(layers.Input(shape=(6,)))
    model.add(layers.Dense(hp.Choice("units", [8, 16, 32]), activation="relu"))
    model.add(layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1)))
    model.add(layers.Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    return model


def data():
    rng = np.random.default_rng(1)
    customers = rng.normal(size=(1200, 6)).astype("float32")
    churned = customers[:, 0] + customers[:, 1] > rng.normal(0, 0.5, 1200)
    return {"x": customers, "y": churned, "shuffle": False}
