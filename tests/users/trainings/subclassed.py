"""A subclassed model without an Input, its width a constructor argument."""

import keras
from keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"units": 32}
EXACT, FAST, CHECKPOINTS = 0.1, True, True
DATA = "digits"


class Net(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(units, activation="relu")
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.2)
        self.classifier = layers.Dense(10, activation="softmax")

    def call(self, inputs, training=False):
        x = self.hidden(self.flatten(inputs))
        x = self.dropout(self.norm(x, training=training), training=training)
        return self.classifier(x)


def build_model(hp):
    model = Net(hp.Choice("units", [16, 32, 64]))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
