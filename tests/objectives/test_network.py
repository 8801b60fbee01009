"""The network of the MNIST objective, with every parameter of its catalogue."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.training.base import Settings
from orchestrator.training.builtin.digits import Digits
from orchestrator.training.builtin.network import INITIALIZERS, OPTIMIZERS, network
from orchestrator.training.data import load

PARAMS: dict[str, Any] = {
    "activation": "relu", "units": 64, "units_2": 32, "units_3": 16, "units_4": 8,
    "dropout": 0.1, "learning_rate": 3e-3, "batch_size": 64,
}  # fmt: skip


def build(**changes: Any) -> keras.Model:
    return network({**PARAMS, **changes}, load("digits"))


def widths(model: keras.Model) -> list[int]:
    return [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_is_keras_with_the_given_learning_rate(optimizer: str) -> None:
    made = build(optimizer=optimizer).optimizer
    assert type(made).__name__.lower() == optimizer
    assert float(made.learning_rate) == pytest.approx(3e-3)


def test_momentum_is_active_only_for_optimizers_that_have_it() -> None:
    assert build(optimizer="sgd", momentum=0.7).optimizer.momentum == 0.7
    assert build(optimizer="rmsprop", momentum=0.7).optimizer.momentum == 0.7
    digits = Digits(Settings())
    active = {each: digits.is_active("momentum", {"optimizer": each}) for each in OPTIMIZERS}
    assert [each for each, is_active in active.items() if is_active] == ["sgd", "rmsprop"]
    assert not digits.is_active("momentum", {}), "Adam has none"


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_every_initializer_makes_finite_weights(initializer: str) -> None:
    kernel = build(initializer=initializer).layers[1].kernel.numpy()
    assert np.isfinite(kernel).all()
    assert (kernel == 0).all() == (initializer == "zero")


@pytest.mark.parametrize("layers", [1, 3, 4, 6])
def test_the_number_of_layers_is_a_parameter(layers: int) -> None:
    expected = [64, 32, 16, 8, 8, 8][:layers]
    assert widths(build(layers=layers)) == [*expected, 10]
    digits = Digits(Settings())
    active = [n for n in range(2, 9) if digits.is_active(f"units_{n}", {"layers": layers})]
    assert active == list(range(2, layers + 1))


def test_max_norm_holds_the_hidden_weights_down_in_training() -> None:
    model = build(max_norm=1.0, initializer="he_normal")
    data = load("digits")
    model.fit(data.x_train[:256], data.y_train[:256], verbose=0)
    norms = np.linalg.norm(model.layers[1].kernel.numpy(), axis=0)
    assert norms.max() <= 1.0 + 1e-5


def test_visible_dropout_comes_before_the_first_layer() -> None:
    kinds = [type(layer).__name__ for layer in build(visible_dropout=0.2).layers]
    assert kinds[:3] == ["Flatten", "Dropout", "Dense"]


def test_hidden_dropout_follows_every_layer_but_the_first() -> None:
    def rates(**changes: Any) -> list[float]:
        layers = build(**changes).layers
        return [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]

    assert rates() == [0.1], "the article's"
    assert rates(hidden_dropout=0.3) == [0.1, 0.3, 0.3, 0.3]
    assert not Digits(Settings()).is_active("hidden_dropout", {"layers": 1})


def test_normalisation_gives_the_training_pixels_mean_0_and_variance_1() -> None:
    model = build(normalisation=True)
    data = load("digits")
    pixels = data.x_train
    out = np.asarray(model.layers[1](pixels.reshape(len(pixels), -1)))
    assert out.mean() == pytest.approx(0, abs=1e-3) and out.std() == pytest.approx(1, abs=1e-3)


def test_only_parameters_named_in_the_spec_are_searched() -> None:
    from orchestrator.resolve.objective import search_space
    from orchestrator.spec.model import StudySpec

    def space(**domains: Any) -> list[str]:
        study = {"name": "a", "objective": "digits"}
        spec = StudySpec.parse({"study": study, "space": domains})
        return list(search_space(spec, Digits(Settings())))

    assert "optimizer" not in space()
    named = space(optimizer={"choice": ["sgd", "adam"]}, layers={"int": [1, 3]}, momentum=0.9)
    assert set(named) - set(space()) == {"optimizer", "layers", "momentum"}
    assert named.index("layers") < named.index("units_2"), "what depends on it comes later"
    assert named.index("optimizer") < named.index("momentum")
