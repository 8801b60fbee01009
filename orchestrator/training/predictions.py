"""Predictions: what a model says of some examples, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import DataError
from orchestrator.training.arrays import Nest, examples_of, is_stream, map_nest, take
from orchestrator.training.data import Array
from orchestrator.training.outputs import Kind, Output, images_of, read_outputs
from orchestrator.training.rounds import Rounds

_MOST_SHOWN = 4  # numbers of one example in a line


@dataclass(frozen=True)
class Examples:
    """Examples that no training has seen, or that only validate.

    Attributes:
        part: ``test`` or ``validation``.
        data: the data's name.
        x: a nest of arrays.
        y: their labels; None: there are none.
        indices: where each is in its part.
    """

    part: str
    data: str
    x: Nest
    y: Nest
    indices: Array

    def __len__(self) -> int:
        return len(self.indices)

    def __str__(self) -> str:
        kind = "test set" if self.part == "test" else "validation examples"
        return f"{kind} of {self.data}"

    def draw(self, count: int, seed: int) -> Examples:
        """As many of them at random, or all that there are."""
        random = np.random.default_rng(seed)
        chosen = random.choice(len(self), size=min(count, len(self)), replace=False)
        x, y = take(self.x, chosen), take(self.y, chosen)
        return Examples(self.part, self.data, x, y, self.indices[chosen])


@dataclass(frozen=True)
class Prediction:
    """What one output says of one example.

    Attributes:
        part: ``test`` or ``validation``.
        index: in that part.
        output: its name; None: the model has one output.
        kind: ``classes``, ``labels``, ``numbers`` or ``images``.
        label: the true class, labels, numbers or image; None: the data do not say it.
        predicted: the same, by the model.
        probability: of the predicted class, or of each predicted label; None: of the rest.
        image: the example, where it is an image.
    """

    part: str
    index: int
    output: str | None
    kind: Kind
    label: Any
    predicted: Any
    probability: Any
    image: Array | None

    @property
    def is_right(self) -> bool | None:
        """Whether the predicted class or labels are the true ones; None: that cannot be said."""
        if self.label is None or self.kind not in ("classes", "labels"):
            return None
        return bool(self.predicted == self.label)

    @property
    def error(self) -> float | None:
        """The mean absolute difference of numbers or images; None: of the rest."""
        if self.label is None or self.kind not in ("numbers", "images"):
            return None
        difference = np.asarray(self.predicted, np.float64) - np.asarray(self.label, np.float64)
        return float(np.abs(difference).mean())

    @property
    def answer(self) -> str:
        """What is predicted, in words."""
        if self.kind == "classes":
            return f"{self.predicted} ({self.probability:.3f})"
        if self.kind == "labels":
            sure = ", ".join(f"{each:.3f}" for each in self.probability)
            return f"{_labels(self.predicted)} ({sure})" if sure else "no label"
        return _numbers(self.predicted) if self.kind == "numbers" else "an image"

    @property
    def truth(self) -> str:
        """What is true, in words."""
        if self.label is None:
            return ""
        if self.kind == "classes":
            return str(self.label)
        return _labels(self.label) if self.kind == "labels" else _numbers(self.label)

    def __str__(self) -> str:
        output = "" if self.output is None else f", {self.output}"
        start = f"{self.part} {self.index}{output}: {self.answer}"
        if self.label is None:
            return start
        if self.is_right is not None:
            return f"{start}, right" if self.is_right else f"{start}, wrong, it is {self.truth}"
        off = f"mean difference {self.error:.3g}"
        if self.kind == "images":
            return f"{start}, {off}"
        many = len(self.predicted) > _MOST_SHOWN
        return f"{start}, {off if many else f'true {self.truth}'}"


def _labels(labels: tuple[int, ...]) -> str:
    return ", ".join(map(str, labels)) or "no label"


def _numbers(numbers: Array) -> str:
    shown = ", ".join(f"{each:.4g}" for each in numbers[:_MOST_SHOWN])
    return shown if len(numbers) <= _MOST_SHOWN else f"{shown}, … ({len(numbers)} numbers)"


def held_out(rounds: Rounds, data: str, count: int) -> Examples:
    """The test set; without one, what validates.

    Args:
        rounds: of the trial.
        data: the data's name.
        count: how many are read at most of what is iterated.

    Raises:
        DataError: there is neither.
    """
    part, parts = "test", rounds.test
    if parts is None:
        part, parts = "validation", rounds.searched.validation_data
    if parts is None:
        raise DataError(f"{data} has no test set and nothing to validate, so nothing to predict")
    if not isinstance(parts, tuple | list):
        parts = (parts,)
    if is_stream(parts[0]):
        parts = _read(parts[0], count)
    x, y = parts[0], parts[1] if len(parts) > 1 else None
    return Examples(part, data, x, y, np.arange(examples_of(x, "x")))


def _read(stream: Any, count: int) -> tuple[Nest, Nest]:
    """The first examples of what is iterated."""
    import keras

    batches: list[tuple[Nest, Nest]] = []
    read = 0
    for batch in _batches(stream):
        x, y = (*batch[:2], None)[:2] if isinstance(batch, tuple | list) else (batch, None)
        pair = keras.tree.map_structure(keras.ops.convert_to_numpy, (x, y), none_is_leaf=False)
        batches.append(pair)
        read += examples_of(pair[0], "x")
        if read >= count:
            break
    joined: tuple[Nest, Nest] = keras.tree.map_structure(
        lambda *arrays: np.concatenate(arrays)[:count], *batches, none_is_leaf=False
    )
    return joined


def _batches(stream: Any) -> Iterator[Any]:
    import keras

    if isinstance(stream, keras.utils.PyDataset):
        known = stream.num_batches
        return (stream[place] for place in (range(known) if known else itertools.count()))
    return iter(stream)


def outputs_of(model: Any, examples: Examples) -> list[Output]:
    """What each output of a model says of the examples.

    Raises:
        DataError: the model does not take them, or says nothing that orch knows.
    """
    _check_shape(model, examples)
    try:
        raw = model.predict(map_nest(_as_keras_takes, examples.x), verbose=0)
    except NotImplementedError:
        kind = type(model).__name__
        raise DataError(f"the model cannot predict: its class {kind} has no call()") from None
    except Exception as error:  # whatever Keras and the model's own layers raise
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"the model cannot predict the {examples}: {reason}") from None
    return read_outputs(model, raw, examples.x, examples.y)


def _as_keras_takes(array: Array) -> Any:
    if array.dtype.kind not in "OSUT":
        return array
    import tensorflow as tf  # the one backend that knows texts

    return tf.constant(array.tolist())


def _check_shape(model: Any, examples: Examples) -> None:
    if not isinstance(examples.x, np.ndarray):
        return
    shape, wanted = examples.x.shape[1:], getattr(model, "input_shape", None)
    if not isinstance(wanted, tuple) or not all(isinstance(each, int) for each in wanted[1:]):
        return
    # Keras lets a last axis of one come and go.
    if _without_last(tuple(wanted[1:])) != _without_last(shape):
        raise DataError(
            f"the model takes examples of shape {tuple(wanted[1:])}, and those of {examples.data} "
            f"have {shape}"
        )


def _without_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


def predictions_of(outputs: list[Output], examples: Examples) -> list[Prediction]:
    """The outputs example by example, all outputs of the first one first."""
    images = images_of(examples.x)
    return [
        _prediction(output, examples, place, None if images is None else images[place])
        for place in range(len(examples))
        for output in outputs
    ]


def _prediction(output: Output, examples: Examples, place: int, image: Array | None) -> Prediction:
    predicted, probability = output.predicted[place], None
    label = None if output.true is None else output.true[place]
    if output.kind == "classes":
        predicted, label = int(predicted), None if label is None else int(label)
    if output.kind == "labels":
        predicted, label = _places(predicted), None if label is None else _places(label)
    if output.probability is not None:
        probability = output.probability[place]
        if output.kind == "labels":
            probability = [float(probability[each]) for each in predicted]
        else:
            probability = float(probability)
    index = int(examples.indices[place])
    return Prediction(
        examples.part, index, output.name, output.kind, label, predicted, probability, image
    )


def _places(truths: Array) -> tuple[int, ...]:
    return tuple(int(place) for place in np.flatnonzero(truths))


def load_whole(path: Path, compiled: bool = True) -> Any:
    """A model that Keras itself can load from its file.

    Args:
        path: of the file.
        compiled: with its loss and its metrics, which may be the user's own.

    Raises:
        DataError: it cannot be loaded.
    """
    import keras

    try:
        return keras.models.load_model(path, safe_mode=True, compile=compiled)
    except Exception as error:  # Keras, h5py and zipfile each raise their own
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path} cannot be loaded as a Keras model: {reason}") from None


def summary_of(model: Any) -> str:
    """The layers of a Keras model with their shapes and parameters, as Keras prints them."""
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(str(line)), line_length=80)
    return "\n".join(lines) + "\n"


def figures_of(output: Output) -> Mapping[str, float]:
    """How far numbers or images are from the true ones; empty: of the rest."""
    if output.true is None or output.kind not in ("numbers", "images"):
        return {}
    true = np.asarray(output.true, np.float64)
    off = np.asarray(output.predicted, np.float64) - true
    figures = {"MAE": float(np.abs(off).mean()), "RMSE": float(np.sqrt(np.square(off).mean()))}
    spread = float(np.square(true - true.mean()).sum())
    if output.kind == "numbers" and spread > 0:
        figures["R2"] = 1 - float(np.square(off).sum()) / spread
    return figures
