"""Support tickets: a model with named inputs and named outputs, as in Keras's functional guide."""

import keras
import numpy as np
from keras import layers

METRIC, EPOCHS = "val_priority_mae", 4
PARAMS = {"width": 16, "department_weight": 0.5}
EXACT, FAST, CHECKPOINTS = True, True, True


def build_model(hp):
    width = hp.Int("width", 8, 32, step=8)
    title = keras.Input((10,), name="title")
    tags = keras.Input((4,), name="tags")
    x = layers.concatenate(
        [layers.Dense(width, activation="relu")(title), layers.Dense(width)(tags)]
    )
    priority = layers.Dense(1, name="priority")(x)
    department = layers.Dense(3, activation="softmax", name="department")(x)
    model = keras.Model(
        inputs={"title": title, "tags": tags},
        outputs={"priority": priority, "department": department},
    )
    model.compile(
        optimizer=keras.optimizers.RMSprop(1e-2),
        loss={"priority": "mse", "department": "sparse_categorical_crossentropy"},
        loss_weights={
            "priority": 1.0,
            "department": hp.Float("department_weight", 0.1, 1.0, step=0.1),
        },
        metrics={"priority": ["mae"], "department": ["accuracy"]},
    )
    return model


def data():
    rng = np.random.default_rng(7)
    title = rng.normal(size=(1000, 10)).astype("float32")
    tags = rng.integers(0, 2, size=(1000, 4)).astype("float32")
    priority = title[:, 0] + tags.sum(axis=1)
    department = np.argmax(title[:, :3], axis=1)

    def rows(part):
        return (
            {"title": title[part], "tags": tags[part]},
            {"priority": priority[part], "department": department[part]},
        )

    x, y = rows(slice(800))
    return {"x": x, "y": y, "validation_data": rows(slice(800, None)), "shuffle": False}
