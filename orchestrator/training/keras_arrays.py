"""The arrays of a call of ``model.fit`` as Keras's own adapter gives them to TensorFlow.

What Keras does with arrays is not written down: it turns floats into ``floatx``, Python strings
into TensorFlow's, a Series into a column, class weights into sample weights, and leaves integers
and booleans as they are. So its own code does it here. That code is private; where a later Keras
moved it, :func:`refused` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.training.compiled_epoch import Nest, as_tensor


@dataclass(frozen=True)
class Examples:
    """All examples of an epoch.

    Attributes:
        data: as ``train_step`` takes a batch: x, (x, y) or (x, y, sample_weight), in tensors.
        batch_size: of a step; Keras's own where none was given.
        steps: of an epoch.
        count: of examples.
    """

    data: Nest
    batch_size: int
    steps: int
    count: int


def examples(
    x: Nest,
    y: Nest = None,
    sample_weight: Nest = None,
    class_weight: Any = None,
    batch_size: int | None = None,
) -> Examples:
    """Arguments as of ``model.fit``, where :func:`refused` has nothing against them.

    Raises:
        ValueError: what Keras raises for them, e.g. that they differ in length.
    """
    import keras
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    adapter = ArrayDataAdapter(
        x, y, sample_weight=sample_weight, class_weight=class_weight, batch_size=batch_size
    )
    data = keras.tree.lists_to_tuples(_converted(adapter._inputs))
    return Examples(
        keras.tree.map_structure(_tensor, data),
        adapter.batch_size,
        adapter.num_batches,
        adapter._num_samples,
    )


def refused(name: str, nest: Nest) -> str | None:
    """Why the argument is not one for :func:`examples`, in words; None: it is."""
    import keras

    for leaf in keras.tree.flatten(nest):
        kind = type(leaf).__name__
        try:
            first = _converted(leaf[:1])
        except ImportError:
            return "a Keras whose array adapter was moved"
        except ValueError:
            return f"{name} of dtype {leaf.dtype}"
        except Exception:  # anything may be given for x
            return f"{name} of type {kind}"
        if kind == "ResourceVariable" or not _is_dense(first):
            return f"{name} of type {kind}"
        if len(first) == 0:
            return f"{name} without examples"
    return None


def split(
    x: Nest, y: Nest, sample_weight: Nest, validation_split: float
) -> tuple[tuple[Nest, Nest, Nest], tuple[Nest, Nest, Nest]]:
    """The arrays to train on and those to validate on, as ``validation_split`` divides them."""
    from keras.src.trainers.data_adapters.array_slicing import train_validation_split

    train, validation = train_validation_split(
        (x, y, sample_weight), validation_split=validation_split
    )
    return train, validation


def _converted(arrays: Nest) -> Nest:
    from keras.src.trainers.data_adapters.array_slicing import convert_to_sliceable

    return convert_to_sliceable(arrays, target_backend="tensorflow")


def _is_dense(array: Any) -> bool:
    import tensorflow as tf

    return isinstance(array, np.ndarray | tf.Tensor)


def _tensor(array: Any) -> Any:
    return as_tensor(array) if isinstance(array, np.ndarray) else array
