"""Anomaly detection: an autoencoder learns to give its input back."""

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers

METRIC, EPOCHS, PARAMS = "val_loss", 5, {"latent": 4, "activation": "relu"}
EXACT, FAST, CHECKPOINTS = True, True, True


def build_model(hp):
    activation = hp.Choice("activation", ["relu", "tanh"])
    inputs = keras.Input((20,))
    encoded = layers.Dense(12, activation=activation)(inputs)
    encoded = layers.Dense(hp.Int("latent", 2, 8, step=2), activation=activation)(encoded)
    decoded = layers.Dense(12, activation=activation)(encoded)
    decoded = layers.Dense(20)(decoded)
    autoencoder = keras.Model(inputs, decoded)
    autoencoder.compile(optimizer="adam", loss="mae")
    return autoencoder


def data():
    rng = np.random.default_rng(5)
    t = np.linspace(0, 6, 20)
    phase = rng.uniform(0, 6, size=(1000, 1))
    beats = (np.sin(t + phase) + rng.normal(0, 0.1, size=(1000, 20))).astype("float32")
    train, test = beats[:800], beats[800:]
    return {"x": train, "y": train, "validation_data": (test, test), "shuffle": False}
