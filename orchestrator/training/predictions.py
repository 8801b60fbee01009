"""Predictions: what a saved model says about some test examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import DataError
from orchestrator.training.data import Array, Dataset


@dataclass(frozen=True)
class Prediction:
    """One test example.

    Attributes:
        index: in the test set.
        image: shape (height, width), as the data set has it.
        label: the true class.
        predicted: the model's class.
        probability: what the model gives that class, 0 to 1.
    """

    index: int
    image: Array
    label: int
    predicted: int
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the model's class is the true one."""
        return self.predicted == self.label

    def __str__(self) -> str:
        verdict = "right" if self.is_right else f"wrong, it is {self.label}"
        return f"test {self.index}: {self.predicted} ({self.probability:.3f}), {verdict}"


def predict(path: Path, dataset: Dataset, count: int, seed: int) -> list[Prediction]:
    """Let a saved Keras model classify ``count`` test examples drawn at random.

    Raises:
        DataError: the file is no Keras model, or not one of these data.
    """
    model = _load(path)
    x, y = dataset.x_test, dataset.y_test
    if not isinstance(x, np.ndarray):
        raise DataError(f"{dataset.name} has no test set of one array; orch predict needs one")
    shape = x.shape[1:]
    if tuple(model.input_shape[1:]) != shape:
        raise DataError(
            f"{path} takes examples of shape {tuple(model.input_shape[1:])}, and those of "
            f"{dataset.name} have {shape}"
        )
    random = np.random.default_rng(seed)
    chosen = random.choice(len(x), size=min(count, len(x)), replace=False)
    probabilities = model.predict(x[chosen], verbose=0)
    return [
        Prediction(
            index=int(index),
            image=x[index],
            label=int(y[index]),
            predicted=int(each.argmax()),
            probability=float(each.max()),
        )
        for index, each in zip(chosen, probabilities, strict=True)
    ]


def model_summary(path: Path) -> str:
    """The layers of a saved Keras model with their shapes and parameters, as Keras prints them.

    Raises:
        DataError: the file is no Keras model.
    """
    lines: list[str] = []
    _load(path).summary(print_fn=lambda line, **_: lines.append(str(line)), line_length=80)
    return "\n".join(lines) + "\n"


def _load(path: Path) -> Any:
    import keras

    try:
        return keras.models.load_model(path, safe_mode=True, compile=False)
    except Exception as error:  # zipfile, h5py and Keras each raise their own
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path} cannot be loaded as a Keras model: {reason}") from None
