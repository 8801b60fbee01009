"""The MNIST network of the article's KerasTuner search, and the catalogue of what it can search."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from objectives import training
from objectives.base import Objective, Trial
from objectives.data import DataFacts, Dataset, load
from objectives.network import (
    INITIALIZERS,
    MOST_LAYERS,
    OPTIMIZERS,
    has_momentum,
    hidden_layers,
    network,
)
from objectives.rounds import Rounds

_LAYERS = 4


class Mnist(Objective):
    """A multilayer perceptron: a wide layer with dropout, three narrow ones, a softmax."""

    default_metric: ClassVar[str] = "val_accuracy"
    default_data: ClassVar[str] = "mnist"
    trains_in_rounds: ClassVar[bool] = True
    uses_epochs: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = True

    def space(self) -> dict[str, BaseDistribution]:
        return {
            "activation": CategoricalDistribution(("relu", "tanh", "sigmoid")),
            "units": IntDistribution(32, 512, step=32),
            **{f"units_{layer}": _narrow() for layer in range(2, _LAYERS + 1)},
            "dropout": FloatDistribution(0.0, 0.5),
            "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
            "batch_size": CategoricalDistribution((32, 64, 128, 256)),
        }

    def catalogue(self) -> dict[str, BaseDistribution]:
        return {
            "layers": IntDistribution(1, MOST_LAYERS),
            **{f"units_{layer}": _narrow() for layer in range(_LAYERS + 1, MOST_LAYERS + 1)},
            "optimizer": CategoricalDistribution(OPTIMIZERS),
            "momentum": FloatDistribution(0.0, 0.9),
            "initializer": CategoricalDistribution(INITIALIZERS),
            "visible_dropout": FloatDistribution(0.0, 0.5),
            "max_norm": FloatDistribution(1.0, 5.0),
            "normalisation": CategoricalDistribution((False, True)),
            "epochs": IntDistribution(1, 20),
        }

    def is_active(self, name: str, chosen: Mapping[str, Any]) -> bool:
        if name == "momentum":
            return has_momentum(chosen)
        if name.startswith("units_"):
            return int(name.removeprefix("units_")) <= hidden_layers(chosen)
        return True

    def check(self) -> DataFacts:
        return self.dataset.facts(self.settings.validation, self.settings.folds)

    def prepare(self) -> None:
        training.configure(self.settings.threads)

    def __call__(self, trial: Trial) -> list[float]:
        params = trial.params
        return training.Training(
            build=lambda: network(params, self.dataset),
            epochs=int(params.get("epochs", self.settings.epochs)),
            batch_size=int(params["batch_size"]),
            metrics=self.metrics,
        ).run(self._rounds, trial)

    @cached_property
    def dataset(self) -> Dataset:
        """The whole data set."""
        return load(self.settings.data or self.default_data)

    @cached_property
    def _rounds(self) -> Rounds:
        settings = self.settings
        return Rounds(self.dataset, settings.validation, settings.folds, settings.repeats)


def _narrow() -> BaseDistribution:
    return IntDistribution(8, 64, step=8)
