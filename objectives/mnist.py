"""The MNIST network of the article's KerasTuner search, and its search space."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from objectives import training
from objectives.base import Objective, Trial
from objectives.data import DataFacts, Dataset, Split, load, split

if TYPE_CHECKING:
    import keras

HIDDEN = ("units_2", "units_3", "units_4")


class Mnist(Objective):
    """A multilayer perceptron: a wide layer with dropout, three narrow ones, a softmax."""

    default_metric: ClassVar[str] = "val_accuracy"
    default_data: ClassVar[str] = "mnist"
    uses_epochs: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = True

    def space(self) -> dict[str, BaseDistribution]:
        narrow: dict[str, BaseDistribution] = {
            name: IntDistribution(8, 64, step=8) for name in HIDDEN
        }
        return {
            "activation": CategoricalDistribution(("relu", "tanh", "sigmoid")),
            "units": IntDistribution(32, 512, step=32),
            **narrow,
            "dropout": FloatDistribution(0.0, 0.5),
            "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
            "batch_size": CategoricalDistribution((32, 64, 128, 256)),
        }

    def check(self) -> DataFacts:
        return self._dataset.facts(self.settings.validation)

    def prepare(self) -> None:
        training.configure(self.settings.threads)

    def __call__(self, trial: Trial) -> float:
        return training.fit(
            lambda: self.build(trial.params),
            self._split,
            trial,
            epochs=self.settings.epochs,
            batch_size=int(trial.params["batch_size"]),
            metric=self.metric,
        )

    def build(self, params: dict[str, Any]) -> keras.Model:
        """The compiled network.

        Args:
            params: one value for each parameter of :meth:`space`.

        Returns:
            A model from images, shape (batch, *image), to class probabilities, shape
            (batch, classes).
        """
        import keras

        layers = keras.layers
        activation = params["activation"]
        model = keras.Sequential(
            [
                keras.Input(self._dataset.x_train.shape[1:]),
                layers.Flatten(),
                layers.Dense(int(params["units"]), activation=activation),
                layers.Dropout(float(params["dropout"])),
                *(layers.Dense(int(params[name]), activation=activation) for name in HIDDEN),
                layers.Dense(self._dataset.classes, activation="softmax"),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.Adam(float(params["learning_rate"])),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model

    @cached_property
    def _dataset(self) -> Dataset:
        return load(self.settings.data or self.default_data)

    @cached_property
    def _split(self) -> Split:
        # Scaled once for all trials of the process.
        raw = split(self._dataset, self.settings.validation)
        return Split(
            training.scaled(raw.x_train),
            raw.y_train,
            training.scaled(raw.x_validation),
            raw.y_validation,
        )
