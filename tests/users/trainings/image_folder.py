"""Images in folders, by image_dataset_from_directory, augmented in the pipeline."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

METRIC, EPOCHS, PARAMS = "val_accuracy", 3, {"filters": 8, "dropout": 0.25}
EXACT, FAST, CHECKPOINTS = 0.15, False, True


def build_model(hp):
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.RandomFlip("horizontal", seed=1),
            layers.Rescaling(1 / 255),
            layers.Conv2D(hp.Int("filters", 4, 8, step=4), 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.25), seed=2),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def folder():
    root = Path(tempfile.mkdtemp()) / "pets"
    rng = np.random.default_rng(35)
    for kind, level in (("cats", 80), ("dogs", 170)):
        (root / kind).mkdir(parents=True)
        for number in range(60):
            image = rng.integers(0, 80, size=(16, 16, 3)) + level - 40
            keras.utils.save_img(str(root / kind / f"{number}.png"), image, scale=False)
    return root


def data():
    common = {"validation_split": 0.25, "seed": 1, "image_size": (16, 16), "batch_size": 16}
    root = folder()
    train, val = (
        keras.utils.image_dataset_from_directory(root, subset=each, **common)
        for each in ("training", "validation")
    )
    brighter = train.map(lambda x, y: (tf.image.random_brightness(x, 5.0, seed=3), y))
    return {"x": brighter.cache().prefetch(tf.data.AUTOTUNE), "validation_data": val.cache()}
