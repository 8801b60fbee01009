"""The random states of a process that a training draws from and that can be stored."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from orchestrator.training.data import Array

_GLOBAL_GENERATOR = "global_seed_generator"


def capture_random_state() -> dict[str, Array]:
    """Those of Python's ``random``, of ``np.random``, and of Keras where no seed is given.

    TensorFlow's own random operations (``tf.random.normal``, the shuffling of ``tf.data``) have
    states inside its graphs, which cannot be read.
    """
    _, integers, gauss = random.getstate()
    state: dict[str, Array] = {
        "random/python": np.array(integers, np.uint32),
        "random/python_gauss": np.array([] if gauss is None else [gauss], np.float64),
    }
    numpy_state: Any = np.random.get_state(legacy=False)
    if numpy_state["bit_generator"] == "MT19937":  # else the user has set a generator
        state["random/numpy"] = np.array(numpy_state["state"]["key"], np.uint32)
        state["random/numpy_position"] = np.array(numpy_state["state"]["pos"])
        state["random/numpy_gauss"] = np.array(
            [numpy_state["gauss"]] if numpy_state["has_gauss"] else [], np.float64
        )
    generator = _keras_generator()
    if generator is not None:
        state["random/keras"] = np.array(generator.state.numpy())
    return state


def restore_random_state(arrays: Mapping[str, Array]) -> None:
    """Set what :func:`capture_random_state` returned; a state that is missing stays as it is."""
    if "random/keras" in arrays:
        generator = _keras_generator(make=True)
        if generator is not None:
            generator.state.assign(arrays["random/keras"])
    if "random/numpy" in arrays:
        gauss = arrays["random/numpy_gauss"]
        position = int(arrays["random/numpy_position"])
        np.random.set_state(
            ("MT19937", arrays["random/numpy"], position, gauss.size, float(gauss.sum()))
        )
    if "random/python" in arrays:  # the last: making Keras's generator draws from it
        gauss = arrays["random/python_gauss"]
        integers = tuple(map(int, arrays["random/python"]))
        random.setstate((3, integers, float(gauss[0]) if gauss.size else None))


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """What happens inside draws nothing, as those see it who come after it."""
    state = capture_random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def _keras_generator(make: bool = False) -> Any:
    """Keras's generator for whoever gives no seed; None: nobody has drawn from it."""
    try:
        from keras.src.backend.common import global_state
        from keras.src.random.seed_generator import global_seed_generator
    except ImportError:  # Keras has moved it
        return None
    if make:
        return global_seed_generator()
    return global_state.get_global_attribute(_GLOBAL_GENERATOR)
