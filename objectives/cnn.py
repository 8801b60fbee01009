"""A small convolutional network for labelled images of any size, e.g. MNIST."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.distributions import CategoricalDistribution as Choice

from orchestrator.objective import DataError, DataFacts, KerasObjective, Trial

if TYPE_CHECKING:
    import keras


class Cnn(KerasObjective):
    """Blocks of a convolution and a pooling, each with twice the filters, and a softmax."""

    def space(self) -> dict[str, BaseDistribution]:
        return {
            "blocks": IntDistribution(1, 3),
            "filters": IntDistribution(8, 24, step=8),
            "kernel": Choice((3, 5)),
            "normalisation": Choice((False, True)),
            "dropout": FloatDistribution(0.0, 0.5),
            "augmentation": Choice((False, True)),
            "optimizer": Choice(("adam", "adamw", "sgd")),
            "learning_rate": FloatDistribution(5e-4, 2e-2, log=True),
            "schedule": Choice(("constant", "cosine")),
            "batch_size": Choice((32, 64, 128)),
        }

    def catalogue(self) -> dict[str, BaseDistribution]:
        return {"epochs": IntDistribution(1, 20)}

    def known_metrics(self) -> Sequence[str]:
        return ("accuracy", "loss", "parameters", "val_accuracy", "val_loss")

    def check(self) -> DataFacts:
        facts = super().check()
        sizes = facts.shape if isinstance(facts.shape, list) else []
        if len(sizes) not in (2, 3) or not all(isinstance(size, int) for size in sizes):
            raise DataError(
                f"cnn needs images, (n, h, w) or (n, h, w, c), and an example of {facts.name} has "
                f"the shape {facts.shape}"
            )
        labels = self.dataset.y
        if self.dataset.classes < 1 or labels.size != len(labels):
            raise DataError(f"cnn needs one class number for each image of {facts.name}")
        return facts

    def build(self, trial: Trial) -> keras.Model:
        import keras

        params, layers = trial.params, keras.layers
        images = self.dataset.x_train
        model = keras.Sequential([keras.Input(images.shape[1:])])
        if images.ndim == 3:
            model.add(layers.Reshape((*images.shape[1:], 1)))
        if images.dtype == np.uint8:
            model.add(layers.Rescaling(1 / 255))
        if params["augmentation"]:
            # The border's own pixels fill what comes in, whatever the background is.
            model.add(layers.RandomTranslation(0.08, 0.08, fill_mode="nearest"))
            model.add(layers.RandomRotation(0.03, fill_mode="nearest"))
        for block in range(params["blocks"]):
            filters = params["filters"] * 2**block
            model.add(layers.Conv2D(filters, params["kernel"], padding="same"))
            if params["normalisation"]:
                # Keras's 0.99 takes hundreds of steps until validation shows what was learned.
                model.add(layers.BatchNormalization(momentum=0.9))
            model.add(layers.ReLU())
            # Padded, an image of one pixel stays one.
            model.add(layers.MaxPooling2D(padding="same"))
        model.add(layers.Flatten())
        model.add(layers.Dropout(params["dropout"]))
        model.add(layers.Dense(self.dataset.classes, activation="softmax"))
        model.compile(
            self._optimizer(trial), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model

    def _optimizer(self, trial: Trial) -> keras.optimizers.Optimizer:
        import keras

        rate: Any = trial.params["learning_rate"]
        if trial.params["schedule"] == "cosine":
            held_out = self.dataset.held_out(self.settings.validation, self.settings.folds)
            examples = self.dataset.examples - held_out
            steps = self.epochs(trial) * math.ceil(examples / trial.params["batch_size"])
            # A refit has more examples: its last steps, beyond these, must not stand still.
            rate = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01)
        if trial.params["optimizer"] == "sgd":
            return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
        kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
        return kinds[trial.params["optimizer"]](rate)
