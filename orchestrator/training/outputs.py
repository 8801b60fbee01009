"""Outputs: what a Keras model's output means, by its activation, its loss and the labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orchestrator.errors import DataError
from orchestrator.training.arrays import Array, Nest
from orchestrator.training.rounds import labels_of

# One of several classes; labels of which several may hold; numbers; and an image for an image.
Kind = Literal["classes", "labels", "numbers", "images"]

_IS_MEASURE = re.compile(
    r"mse|mae|mape|msle|squared|absolute|logarithmic|huber|log_?cosh|quantile|pinball|poisson"
)
_TOLERANCE = 1e-2  # of a sum of probabilities in half precision
_SMALLEST_IMAGE, _SMALLEST_FLAT_IMAGE = 8, 28
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Output:
    """What one output says of some examples, an entry for each of them.

    Attributes:
        name: the output's; None: the model has one output.
        kind: what it says.
        predicted: class numbers (n,); truth values (n, labels); numbers (n, k); images (n, h, w) or
            (n, h, w, 3).
        true: the same, as the data have it; None: they do not say it.
        probability: of the predicted class (n,), or of each label (n, labels); None: of the rest.
    """

    name: str | None
    kind: Kind
    predicted: Array
    true: Array | None
    probability: Array | None = None


@dataclass(frozen=True)
class Head:
    """What a model knows of one of its outputs.

    Attributes:
        name: the output's; None: the model has one.
        loss: the name of its loss; empty: there is none.
        from_logits: whether the loss takes logits.
        activation: the name of the last one; None: it cannot be seen.
    """

    name: str | None
    loss: str
    from_logits: bool
    activation: str | None


def read_outputs(model: Any, raw: Any, x: Nest, y: Nest) -> list[Output]:
    """The outputs of a prediction, each as what it means.

    Args:
        model: which has predicted.
        raw: what it returned: an array, or a dict or list of them.
        x: the examples.
        y: their labels, in the structure of the outputs; None: there are none.

    Raises:
        DataError: an output is nothing that orch knows.
    """
    if isinstance(raw, Mapping):
        names = [str(name) for name in raw]
        parts = list(raw.values())
        places = [sorted(names).index(name) for name in names]  # as Keras flattens them
    elif isinstance(raw, list | tuple):
        parts, places = list(raw), list(range(len(raw)))
        known = list(getattr(model, "output_names", []))
        names = known if len(set(known)) == len(parts) else [str(place) for place in places]
    else:
        head = Head(None, *_loss_of(_part(model.loss, None, 0)), _activation(model, 0))
        return [_read(head, np.asarray(raw), x, _part(y, None, 0))]
    found = []
    for order, (name, place, part) in enumerate(zip(names, places, parts, strict=True)):
        loss = _part(getattr(model, "loss", None), name, order, shared=True)
        head = Head(name, *_loss_of(loss), _activation(model, place))
        found.append(_read(head, np.asarray(part), x, _part(y, name, order)))
    return found


def _part(whole: Any, name: str | None, order: int, shared: bool = False) -> Any:
    """What belongs to one output of labels, or of losses, where one may be ``shared`` by all."""
    if isinstance(whole, Mapping):
        if name is None:
            return next(iter(whole.values())) if len(whole) == 1 else None
        return whole.get(name)
    if isinstance(whole, list | tuple):
        return whole[order] if order < len(whole) else None
    return whole if shared or order == 0 else None


def _loss_of(loss: Any) -> tuple[str, bool]:
    """A loss's name, and whether it takes logits."""
    if loss is None or isinstance(loss, str):
        return loss or "", False
    function = getattr(loss, "fn", None)
    names = [type(loss).__name__, getattr(loss, "__name__", ""), getattr(function, "__name__", "")]
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", " ".join(names)).lower()
    return text, bool(getattr(loss, "from_logits", False))


def _activation(model: Any, place: int) -> str | None:
    try:
        operation = model.outputs[place]._keras_history.operation
    except (AttributeError, IndexError, TypeError, ValueError):
        return None  # a subclass, whose outputs nobody sees
    if getattr(operation, "outputs", None) and hasattr(operation, "layers"):
        return _activation(operation, 0)
    kind = type(operation).__name__.lower()
    if kind in ("softmax", "sigmoid"):
        return kind
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", None)


def _read(head: Head, raw: Array, x: Nest, y: Nest) -> Output:
    if raw.dtype.kind not in "biuf" or raw.ndim == 0:
        raise DataError(f"{_named(head)} of type {raw.dtype} is not shown")
    raw = raw.astype(np.float64) if raw.ndim > 1 else raw.astype(np.float64)[:, np.newaxis]
    true = y if isinstance(y, np.ndarray) else None
    if true is None and isinstance(x, np.ndarray) and x.shape == raw.shape:
        true = x  # an autoencoder whose training step wants no labels
    if raw.ndim == 2:
        return _read_row(head, raw, true)
    return _read_grid(head, raw, true)


def _read_row(head: Head, raw: Array, true: Array | None) -> Output:
    """An output of one row of units for each example."""
    units = raw.shape[1]
    if units == 1:
        if _is_binary(head, raw, true):
            return _binary(head, raw[:, 0], true)
        return _numbers(head, raw, true)
    if _are_classes(head, raw, true):
        scores = _class_probabilities(head, raw)
        labels = None if true is None else _classes_of(true)
        return Output(head.name, "classes", scores.argmax(axis=1), labels, scores.max(axis=1))
    if _is_binary(head, raw, true) and (true is None or true.shape == raw.shape):
        scores = _unit_probabilities(head, raw)
        labels = None if true is None else true.astype(bool)
        return Output(head.name, "labels", scores >= 0.5, labels, scores)
    flat = images_of(raw)
    if flat is not None and true is not None and true.shape == raw.shape:
        return Output(head.name, "images", flat, images_of(true))
    return _numbers(head, raw, true)


def _read_grid(head: Head, raw: Array, true: Array | None) -> Output:
    """An output with more than one axis: an image, a mask, or numbers."""
    drawn = images_of(raw)
    if drawn is not None and true is not None and true.shape == raw.shape:
        return Output(head.name, "images", drawn, images_of(true))
    masks = raw.argmax(axis=-1)
    if "categorical" in head.loss and images_of(masks) is not None:
        labels = None if true is None else true.reshape(len(true), *raw.shape[1:-1], -1)
        if labels is not None and labels.shape[-1] > 1:
            labels = labels.argmax(axis=-1)[..., np.newaxis]
        return Output(head.name, "images", masks, None if labels is None else labels[..., 0])
    if "categorical" in head.loss or (true is not None and true.size != raw.size):
        shape = tuple(raw.shape[1:])
        raise DataError(
            f"{_named(head)} has the shape {shape} for each example, with labels of another shape; "
            "orch predict shows classes, labels, numbers and images"
        )
    return _numbers(head, raw.reshape(len(raw), -1), true)


def _named(head: Head) -> str:
    return "the model's output" if head.name is None else f"the model's output '{head.name}'"


def _is_binary(head: Head, raw: Array, true: Array | None) -> bool:
    """Whether each unit says yes or no."""
    is_by_model = "binary" in head.loss or (
        head.activation == "sigmoid" and not _IS_MEASURE.search(head.loss)
    )
    if true is None:
        return is_by_model
    if true.dtype.kind not in "biuf" or not np.isin(true, (0, 1)).all():
        return False
    if is_by_model or head.activation == "sigmoid":
        return True
    return not _IS_MEASURE.search(head.loss) and (true.dtype.kind in "biu" or _is_share(raw))


def _are_classes(head: Head, raw: Array, true: Array | None) -> bool:
    """Whether the units are classes, of which one is the true one."""
    is_by_model = "categorical" in head.loss or _are_distributions(raw)
    if true is None:
        return is_by_model
    if true.size == len(true):
        is_whole = true.dtype.kind in "biu" or (
            true.dtype.kind == "f" and bool((true == np.floor(true)).all())
        )
        if not is_whole or not (true.min() >= 0 and true.max() < raw.shape[1]):
            return False
        return is_by_model or (true.dtype.kind in "iu" and not _IS_MEASURE.search(head.loss))
    if true.shape != raw.shape:
        return False
    if is_by_model:
        return "categorical" in head.loss or labels_of(true) is not None
    return labels_of(true) is not None and _is_binary(head, raw, true)


def _classes_of(true: Array) -> Array:
    column = true.reshape(-1) if true.size == len(true) else true.argmax(axis=1)
    return column.astype(np.int64)


def _binary(head: Head, raw: Array, true: Array | None) -> Output:
    ones = _unit_probabilities(head, raw)
    predicted = (ones >= 0.5).astype(np.int64)
    labels = None if true is None else true.reshape(-1).astype(np.int64)
    return Output(head.name, "classes", predicted, labels, np.where(predicted == 1, ones, 1 - ones))


def _numbers(head: Head, raw: Array, true: Array | None) -> Output:
    values = _unit_probabilities(head, raw) if "binary" in head.loss else raw
    if true is None or true.dtype.kind not in "biuf":
        return Output(head.name, "numbers", values, None)
    numbers = true.reshape(len(true), -1).astype(np.float64)
    if numbers.shape[1] not in (1, values.shape[1]):
        return Output(head.name, "numbers", values, None)
    # Of several quantiles, each is set against the same number.
    return Output(head.name, "numbers", values, np.broadcast_to(numbers, values.shape))


def _class_probabilities(head: Head, raw: Array) -> Array:
    if _are_distributions(raw):
        return raw
    if not head.from_logits and head.activation != "linear" and _is_share(raw):
        return raw
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _unit_probabilities(head: Head, raw: Array) -> Array:
    if head.activation == "sigmoid" or (_is_share(raw) and not head.from_logits):
        return raw
    if "binary" in head.loss and not head.from_logits:
        return np.clip(raw, 0, 1)  # as the loss does it
    return np.asarray(1 / (1 + np.exp(-np.clip(raw, -500, 500))))


def _is_share(raw: Array) -> bool:
    return bool(((raw >= -_TOLERANCE) & (raw <= 1 + _TOLERANCE)).all())


def _are_distributions(raw: Array) -> bool:
    return _is_share(raw) and bool((np.abs(raw.sum(axis=-1) - 1) < _TOLERANCE).all())


def images_of(x: Nest) -> Array | None:
    """The examples as grey images (n, h, w) or coloured ones (n, h, w, 3); None: they are none.

    A square number of features, from 28 x 28 on, is an image, too: so people flatten MNIST.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf":
        return None
    if x.ndim == 2:
        side = round(x.shape[1] ** 0.5)
        is_square = side * side == x.shape[1] and side >= _SMALLEST_FLAT_IMAGE
        return x.reshape(-1, side, side) if is_square else None
    if x.ndim == 4 and x.shape[-1] not in _CHANNELS and x.shape[1] in _CHANNELS:
        x = np.moveaxis(x, 1, -1)
    if x.ndim == 4 and x.shape[-1] in _CHANNELS:
        x = x[..., 0] if x.shape[-1] == 1 else x[..., :3]
    elif x.ndim != 3:
        return None
    return x if min(x.shape[1:3]) >= _SMALLEST_IMAGE else None
