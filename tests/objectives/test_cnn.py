"""The convolutional network: images of every kind, its whole space, its schedule, its fast fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from notebook import Notebook
from optuna.distributions import CategoricalDistribution

from orchestrator.errors import DataError
from orchestrator.training import fast_fit
from orchestrator.training.base import Settings
from orchestrator.training.builtin.cnn import Cnn
from orchestrator.training.data import Array

PARAMS: dict[str, Any] = {
    "blocks": 2, "filters": 8, "kernel": 3, "normalisation": True, "dropout": 0.1,
    "augmentation": False, "optimizer": "adam", "learning_rate": 5e-3, "schedule": "constant",
    "batch_size": 64,
}  # fmt: skip


def trial(**changes: Any) -> Notebook:
    notebook = Notebook()
    notebook.params = {**PARAMS, **changes}
    return notebook


def digits(**settings: Any) -> Cnn:
    return Cnn(Settings(data="digits", **settings))


def of(folder: Path, x: Array, y: Array, epochs: int = 1) -> Cnn:
    """The network for these examples, as a user has them in a file."""
    path = folder / "images.npz"
    np.savez(path, x_train=x, y_train=y)
    return Cnn(Settings(data=str(path), epochs=epochs))


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def striped(shape: tuple[int, ...], classes: int) -> tuple[Array, Array]:
    """Images of noise whose brightness is that of their class."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(shape[0]) % classes)
    level = labels.reshape(-1, *[1] * (len(shape) - 1)) * (200 / classes)
    return level + random.uniform(0, 20, shape), labels


def test_it_learns_the_digits() -> None:
    notebook = trial()
    [value] = digits(epochs=4)(notebook)
    assert list(notebook.reports) == [1, 2, 3, 4]
    assert value > 0.9


def test_it_trains_mnist_unless_other_data_are_named() -> None:
    assert Cnn.default_data == "mnist"


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("augmentation", [False, True])
def test_every_combination_of_layers_trains_by_the_fast_fit(
    blocks: int, kernel: int, augmentation: bool
) -> None:
    objective = digits(epochs=1)
    for normalisation in (False, True):
        changes = {"normalisation": normalisation, "augmentation": augmentation}
        notebook = trial(blocks=blocks, kernel=kernel, **changes)
        model = objective.build(notebook)
        split = objective.rounds(notebook)[0]
        call = {"x": split.x, "y": split.y, "validation_data": split.validation_data}
        assert fast_fit.obstacle(model, call) is None
        assert kinds(model).count("Conv2D") == blocks
        assert ("BatchNormalization" in kinds(model)) == normalisation
        assert ("RandomTranslation" in kinds(model)) == augmentation
        [value] = objective(notebook)
        assert 0.05 < value <= 1


def test_every_choice_of_the_space_builds() -> None:
    objective = digits()
    for name, domain in objective.space().items():
        ends = (
            domain.choices
            if isinstance(domain, CategoricalDistribution)
            else (domain.low, domain.high)
        )
        for value in ends:
            assert objective.build(trial(**{name: value})).output_shape == (None, 10)
    assert set(objective.space()) == set(PARAMS)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_optimizer_is_keras_with_the_given_learning_rate(optimizer: str) -> None:
    made = digits().build(trial(optimizer=optimizer)).optimizer
    assert type(made).__name__.lower() == optimizer
    assert float(made.learning_rate) == pytest.approx(5e-3)


def test_the_cosine_reaches_its_lowest_rate_with_the_last_step() -> None:
    objective = digits(epochs=2)
    notebook = trial(schedule="cosine")
    rates: list[float] = []

    class Rates(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            rates.append(float(self.model.optimizer.learning_rate))

    model = objective.build(notebook)
    split = objective.rounds(notebook)[0]
    model.fit(split.x, split.y, batch_size=64, epochs=2, callbacks=[Rates()], verbose=0)
    half = 5e-3 * (0.01 + 0.99 / 2)
    assert rates == pytest.approx([half, 5e-5])


def test_the_cosine_follows_the_epochs_and_the_folds() -> None:
    def steps(**settings: Any) -> int:
        rate = digits(**settings).build(trial(schedule="cosine")).optimizer._learning_rate
        return int(rate.decay_steps)

    assert steps(epochs=3) == 3 * 19, "1,437 examples, a sixth held out, in steps of 64"
    assert steps(epochs=3, folds=5) == 3 * 18


@pytest.mark.parametrize(
    "shape", [(60, 1, 1), (60, 2, 3), (60, 5, 31), (60, 12, 12, 1), (60, 9, 10, 3), (60, 1, 20, 2)]
)
def test_images_of_any_size_with_and_without_channels_train(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    x, y = striped(shape, classes=3)
    objective = of(tmp_path, x.astype(np.float32) / 255, y)
    notebook = trial(blocks=3, kernel=5, augmentation=True)
    model = objective.build(notebook)
    assert model.input_shape == (None, *shape[1:]) and model.output_shape == (None, 3)
    [value] = objective(notebook)
    assert 0 <= value <= 1


def test_bytes_are_rescaled_by_a_layer_of_its_own(tmp_path: Path) -> None:
    x, y = striped((300, 6, 6, 3), classes=2)
    objective = of(tmp_path, x.astype(np.uint8), y, epochs=6)
    notebook = trial(blocks=1, augmentation=True, normalisation=False)
    model = objective.build(notebook)
    [rescaling] = [each for each in model.layers if isinstance(each, keras.layers.Rescaling)]
    assert np.asarray(rescaling(np.full((1, 6, 6, 3), 255, np.uint8))).max() == pytest.approx(1)
    [value] = objective(notebook)
    assert value > 0.9
    assert "Rescaling" not in kinds(digits().build(trial())), "those are from 0 to 1 already"


def test_there_is_an_output_for_each_class(tmp_path: Path) -> None:
    x, y = striped((120, 4, 4), classes=37)
    assert of(tmp_path, x, y).build(trial()).output_shape == (None, 37)


@pytest.mark.parametrize("shape", [(60, 4), (60, 2, 2, 2, 1), (60,)])
def test_examples_that_are_not_images_are_refused_at_once(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    x, y = striped(shape, classes=2)
    with pytest.raises(DataError, match=r"cnn needs images, \(n, h, w\) or \(n, h, w, c\)"):
        of(tmp_path, x, y).check()


@pytest.mark.parametrize("labels", [np.eye(2, dtype=np.int64)[np.arange(60) % 2], np.ones(60)])
def test_labels_that_are_not_one_class_number_are_refused_at_once(
    labels: Array, tmp_path: Path
) -> None:
    x, _ = striped((60, 4, 4), classes=2)
    with pytest.raises(DataError, match="class number"):
        of(tmp_path, x, labels).check()


def test_a_refit_trains_and_evaluates() -> None:
    refit = digits(epochs=2).refit(trial(schedule="cosine"))
    assert refit.examples == 1437 and refit.test["accuracy"] > 0.8
