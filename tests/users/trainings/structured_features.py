"""Structured data: a dictionary of strings, numbers and integers, each encoded in the model."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 3, {"units": 16}
EXACT, FAST, CHECKPOINTS = 0.15, True, False

rng = np.random.default_rng(48)
age = rng.normal(50, 10, size=(800, 1)).astype("float32")
sex = rng.integers(0, 2, size=(800, 1))
thal = rng.choice(["fixed", "normal", "reversible"], size=(800, 1))
target = ((age[:, 0] > 50) ^ (thal[:, 0] == "normal")).astype("int32")


def build_model(hp):
    inputs = {
        "age": keras.Input((1,), name="age"),
        "sex": keras.Input((1,), name="sex", dtype="int64"),
        "thal": keras.Input((1,), name="thal", dtype="string"),
    }
    normalizer = layers.Normalization()
    normalizer.adapt(age[:600])
    lookup = layers.StringLookup(output_mode="one_hot", vocabulary=sorted(set(thal[:, 0])))
    encoder = layers.CategoryEncoding(num_tokens=2, output_mode="one_hot")
    features = layers.concatenate(
        [normalizer(inputs["age"]), encoder(inputs["sex"]), lookup(inputs["thal"])]
    )
    x = layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu")(features)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def data():
    import tensorflow as tf

    def rows(part):
        return {"age": age[part], "sex": sex[part], "thal": tf.constant(thal[part])}

    validation = rows(slice(600, None)), target[600:]
    return {"x": rows(slice(600)), "y": target[:600], "validation_data": validation}
