"""Raw texts in a Dataset; the vocabulary is tuned, and adapted in build."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

METRIC, EPOCHS, PARAMS = "val_binary_accuracy", 4, {"max_tokens": 20, "embedding": 8}
EXACT, FAST, CHECKPOINTS = True, False, True

rng = np.random.default_rng(36)
WORDS = np.array([f"word{i}" for i in range(30)])
chosen = rng.integers(0, 30, size=(400, 6))
TEXTS = np.array([" ".join(WORDS[each]) for each in chosen])
LABELS = (chosen.mean(axis=1) > 14.5).astype("int64")


def build_model(hp):
    vectorize = layers.TextVectorization(
        max_tokens=hp.Int("max_tokens", 20, 32, step=4), output_sequence_length=6
    )
    vectorize.adapt(TEXTS[:300])
    model = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            vectorize,
            layers.Embedding(hp.get("max_tokens"), hp.Choice("embedding", [4, 8])),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )
    return model


def data():
    train = tf.data.Dataset.from_tensor_slices((TEXTS[:300], LABELS[:300])).batch(32)
    val = tf.data.Dataset.from_tensor_slices((TEXTS[300:], LABELS[300:])).batch(32)
    return {"x": train.cache(), "validation_data": val}
