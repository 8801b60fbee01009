"""Reviews as strings: the model has its own vocabulary."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"embedding": 8, "max_tokens": 50}
EXACT, FAST, CHECKPOINTS = 0.1, True, True

rng = np.random.default_rng(9)
good, bad = ["great", "lovely", "moving", "fun"], ["dull", "awful", "boring", "weak"]
filler = ["film", "the", "plot", "actor", "scene", "was", "a", "and"]
labels = rng.integers(0, 2, 1000)
texts = np.array(
    [" ".join([*rng.choice(filler, 6), *rng.choice(good if label else bad, 2)]) for label in labels]
)


def build_model(hp):
    vectorize = layers.TextVectorization(
        max_tokens=hp.Choice("max_tokens", [20, 50]), output_sequence_length=10
    )
    vectorize.adapt(texts[:800])
    inputs = keras.Input(shape=(1,), dtype="string")
    x = vectorize(inputs)
    x = layers.Embedding(50, hp.Int("embedding", 4, 16, step=4))(x)
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def data():
    import tensorflow as tf

    # Keras wants tensors of strings, not NumPy's.
    train, test = (tf.constant(part[:, None]) for part in (texts[:800], texts[800:]))
    return {"x": train, "y": labels[:800], "validation_data": (test, labels[800:])}
