"""AdamW with warm-up and cosine decay: the schedule is the optimizer's."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 6, {"units": 32, "peak": 0.01}
EXACT, FAST, CHECKPOINTS = True, True, True


def build_model(hp):
    model = keras.Sequential([keras.Input((6,))])
    model.add(layers.Dense(hp.Int("units", 16, 64, step=16), activation="gelu"))
    model.add(layers.LayerNormalization())
    model.add(layers.Dropout(0.1))
    model.add(layers.Dense(3, activation="softmax"))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=60,
        warmup_target=hp.Choice("peak", [1e-2, 1e-3]),
        warmup_steps=12,
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-3, clipnorm=1.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def data():
    rng = np.random.default_rng(32)
    y = rng.integers(0, 3, 500)
    x = (rng.normal(size=(3, 6))[y] + rng.normal(size=(500, 6))).astype("float32")
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:]), "shuffle": False}
