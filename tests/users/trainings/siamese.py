"""A siamese network: two images each, their distance, a contrastive loss."""

import keras
import numpy as np
from keras import layers, ops

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"embedding": 8, "margin": 1.0}
EXACT, FAST, CHECKPOINTS = True, True, True


def euclidean(vectors):
    x, y = vectors
    return ops.sqrt(ops.maximum(ops.sum(ops.square(x - y), axis=1, keepdims=True), 1e-7))


def contrastive(margin):
    def contrastive_loss(y_true, y_pred):
        return ops.mean(
            (1 - y_true) * ops.square(y_pred)
            + y_true * ops.square(ops.maximum(margin - y_pred, 0))
        )

    return contrastive_loss


def build_model(hp):
    tower = keras.Sequential(
        [keras.Input((8, 8)), layers.Flatten(), layers.BatchNormalization(),
         layers.Dense(hp.Choice("embedding", [4, 8]), activation="tanh")]
    )
    first, second = keras.Input((8, 8)), keras.Input((8, 8))
    distance = layers.Lambda(euclidean, output_shape=(1,))([tower(first), tower(second)])
    x = layers.BatchNormalization()(distance)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model([first, second], outputs)
    model.compile(
        loss=contrastive(hp.Float("margin", 0.5, 1.5)), optimizer="RMSprop", metrics=["accuracy"]
    )
    return model


def data():
    rng = np.random.default_rng(34)
    kinds = rng.normal(size=(3, 8, 8))
    a, b = rng.integers(0, 3, 600), rng.integers(0, 3, 600)
    left, right = (kinds[k] + rng.normal(size=(600, 8, 8)) for k in (a, b))
    y = (a != b).astype("float32")
    return {
        "x": [left[:450], right[:450]],
        "y": y[:450],
        "validation_data": ([left[450:], right[450:]], y[450:]),
        "shuffle": False,
    }
