"""The MNIST network of the article's KerasTuner search, and the catalogue of what it can search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.objective import KerasObjective, Trial

from .network import (
    INITIALIZERS,
    MOST_LAYERS,
    OPTIMIZERS,
    has_momentum,
    hidden_layers,
    network,
)

if TYPE_CHECKING:
    import keras

_LAYERS = 4


class Mnist(KerasObjective):
    """A multilayer perceptron: a wide layer with dropout, three narrow ones, a softmax."""

    small_network: ClassVar[bool] = True

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
            "hidden_dropout": FloatDistribution(0.0, 0.5),
            "max_norm": FloatDistribution(1.0, 5.0),
            "normalisation": CategoricalDistribution((False, True)),
            "epochs": IntDistribution(1, 20),
        }

    def known_metrics(self) -> Sequence[str]:
        return ("accuracy", "loss", "parameters", "val_accuracy", "val_loss")

    def is_active(self, name: str, chosen: Mapping[str, Any]) -> bool:
        if name == "momentum":
            return has_momentum(chosen)
        if name == "hidden_dropout":
            return hidden_layers(chosen) > 1
        if name.startswith("units_"):
            return int(name.removeprefix("units_")) <= hidden_layers(chosen)
        return True

    def build(self, trial: Trial) -> keras.Model:
        return network(trial.params, self.dataset)


def _narrow() -> BaseDistribution:
    return IntDistribution(8, 64, step=8)
