"""The state of a Keras training: taken, given back, and forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.training.data import Array
from orchestrator.training.errors import ObjectiveError

if TYPE_CHECKING:
    import keras


def capture_state(model: keras.Model) -> dict[str, Array]:
    """Copies of everything that training changes: weights, random states, the optimizer's state."""
    return {
        f"{index:05d}": np.array(variable.numpy()) for index, variable in enumerate(_state(model))
    }


def restore_state(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Give a newly built model the captured state.

    Raises:
        ObjectiveError: it is of another model.
    """
    variables = _state(model)
    captured = [arrays[name] for name in sorted(arrays)]
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in captured]:
        raise ObjectiveError("the checkpoint is of another model; has the objective changed?")
    for variable, array in zip(variables, captured, strict=True):
        variable.assign(array)


def custom_gradients() -> dict[str, Any]:
    """TensorFlow's registry of gradient functions; empty where a later TensorFlow moved it."""
    try:
        from tensorflow.python.framework import ops

        registry: dict[str, Any] = ops.gradient_registry._registry
    except (ImportError, AttributeError):
        return {}
    return registry


def forget_custom_gradients(known: set[str]) -> None:
    """Remove the gradient functions that were registered since ``known`` was taken."""
    # Each trace of an optimizer step registers a function that holds its whole graph, and
    # TensorFlow never removes it: a worker grew by 8 MiB a trial, and became slower (TF 2.21).
    # Only the names that custom_gradient makes up for a trace are removed.
    registry = custom_gradients()
    for name in set(registry) - known:
        if name.startswith("CustomGradient-"):
            del registry[name]


def _state(model: keras.Model) -> list[Any]:
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
