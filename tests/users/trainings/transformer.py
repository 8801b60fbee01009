"""A transformer block as a layer of one's own, not registered, without get_config."""

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 3, {"num_heads": 2, "ff_dim": 16}
EXACT, FAST, CHECKPOINTS = True, True, True


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.dropout1(self.att(inputs, inputs))
        out1 = self.layernorm1(inputs + attn_output)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


def build_model(hp):
    inputs = layers.Input(shape=(12,))
    x = layers.Embedding(input_dim=40, output_dim=8)(inputs)
    x = TransformerBlock(8, hp.Choice("num_heads", [1, 2]), hp.Int("ff_dim", 8, 24, step=8))(x)
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(2, activation="softmax")(x)
    model = keras.Model(inputs=inputs, outputs=outputs)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data():
    rng = np.random.default_rng(47)
    y = rng.integers(0, 2, 500)
    x = rng.integers(0, 30, size=(500, 12)) + 10 * y[:, None]
    return {"x": x[:400], "y": y[:400], "validation_data": (x[400:], y[400:]), "shuffle": False}
