"""Recommendations: user and item ids are large numbers, which float32 would round."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS, PARAMS = "val_mae", 6, {"factors": 8, "learning_rate": 0.05}
EXACT, FAST, CHECKPOINTS = True, True, False

user_ids = 9_000_000_000_000_000 + np.arange(40)
item_ids = 33_554_432 + np.arange(30)


def build_model(hp):
    size = hp.Int("factors", 4, 16, step=4)
    user = keras.Input((1,), name="user", dtype="int64")
    item = keras.Input((1,), name="item", dtype="int64")
    users = layers.IntegerLookup(vocabulary=user_ids)(user)
    items = layers.Hashing(num_bins=128)(item)
    dot = layers.Dot(axes=2)(
        [layers.Embedding(41, size)(users), layers.Embedding(128, size)(items)]
    )
    model = keras.Model([user, item], layers.Dense(1)(layers.Flatten()(dot)))
    optimizer = keras.optimizers.Adam(hp.Choice("learning_rate", [0.05, 0.01]))
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def data():
    rng = np.random.default_rng(12)
    taste, quality = rng.normal(size=40), rng.normal(size=30)
    u, i = rng.integers(0, 40, 2000), rng.integers(0, 30, 2000)
    x = {"user": user_ids[u][:, None], "item": item_ids[i][:, None]}
    y = (taste[u] * quality[i] + 3).astype("float32")
    validation = {name: ids[1600:] for name, ids in x.items()}
    return {
        "x": {name: ids[:1600] for name, ids in x.items()},
        "y": y[:1600],
        "validation_data": (validation, y[1600:]),
        "shuffle": False,
    }
