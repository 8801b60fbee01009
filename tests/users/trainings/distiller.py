"""Knowledge distillation: a compile and a compute_loss of one's own."""

import keras
import numpy as np
from keras import layers, ops

METRIC, EPOCHS, PARAMS = "val_accuracy", 4, {"units": 8, "alpha": 0.2}
EXACT, FAST, CHECKPOINTS = 0.15, True, True


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.teacher = teacher
        self.student = student

    def compile(self, optimizer, metrics, student_loss_fn, alpha, temperature):
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss_fn = student_loss_fn
        self.alpha = alpha
        self.temperature = temperature

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False):
        teacher = ops.softmax(self.teacher(x, training=False) / self.temperature)
        student = ops.softmax(y_pred / self.temperature)
        distillation = ops.mean(keras.losses.kl_divergence(teacher, student))
        return self.alpha * self.student_loss_fn(y, y_pred) + (1 - self.alpha) * distillation

    def call(self, x):
        return self.student(x)


def network(units, name):
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(units, activation="relu"), layers.Dense(3)], name=name
    )


def build_model(hp):
    student = network(hp.Int("units", 4, 16, step=4), "student")
    distiller = Distiller(student, network(64, "teacher"))
    distiller.teacher.trainable = False
    distiller.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        student_loss_fn=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        alpha=hp.Float("alpha", 0.1, 0.9, step=0.1),
        temperature=3,
    )
    return distiller


def data():
    rng = np.random.default_rng(46)
    y = rng.integers(0, 3, 600)
    x = rng.normal(size=(3, 6))[y] * 2 + rng.normal(size=(600, 6))
    x = x.astype("float32")
    return {"x": x[:480], "y": y[:480], "validation_data": (x[480:], y[480:])}
