"""``model.fit`` with a whole epoch compiled: the same training without Keras's work per step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.training.compiled_epoch import CompiledEpoch, as_tensor, parts_of
from orchestrator.training.data import Array

if TYPE_CHECKING:
    import keras

_OPTIONS = {"epochs", "initial_epoch", "validation_data", "verbose", "callbacks"}
_KERAS_LOOP = (
    "fit",
    "evaluate",
    "train_step",
    "test_step",
    "compute_metrics",
    "make_train_function",
    "make_test_function",
)
_BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
)


def fit(model: keras.Model, x: Array, y: Array, batch_size: int, **options: Any) -> Any:
    """Train as ``model.fit(x, y, batch_size=batch_size, **options)`` does.

    Where Keras's own loop cannot be told apart by its results, a compiled one takes its place: the
    model's ``train_step`` and ``test_step``, its metrics, its history and the callbacks of epochs
    are Keras's. Where it could be told (callbacks of batches, weights of samples, a model with a
    loop of its own, a GPU), this is ``model.fit``.

    A callback with ``watches_loss`` stands for one that wants an epoch to end with the first step
    whose loss is no number; its own hooks of batches are not called.

    Returns:
        Keras's history.
    """
    if _fits(model, x, y, options):
        return _fit(model, x, y, batch_size, **options)
    return model.fit(x, y, batch_size=batch_size, **options)


def _fits(model: Any, x: Any, y: Any, options: dict[str, Any]) -> bool:
    import keras

    validation = options.get("validation_data")
    data = [x, y, *(validation or ())]
    return (
        keras.backend.backend() == "tensorflow"
        and set(options) <= _OPTIONS
        and options.get("verbose") == 0
        and (validation is None or (isinstance(validation, tuple) and len(validation) == 2))
        and all(map(_is_plain, data))
        and len(x) == len(y)
        and _has_keras_loop(model)
        and not any(map(_watches_batches, options.get("callbacks") or ()))
        and keras.config.max_epochs() is None
        and keras.config.max_steps_per_epoch() is None
    )


def _is_plain(data: Any) -> bool:
    """Keras passes such an array to the model as it is; it converts others."""
    import keras

    return (
        isinstance(data, np.ndarray)
        and len(data) > 0
        and (np.issubdtype(data.dtype, np.integer) or data.dtype.name == keras.config.floatx())
    )


def _has_keras_loop(model: Any) -> bool:
    import keras
    import tensorflow as tf

    return (
        model.compiled
        and not model.run_eagerly
        and not model.jit_compile
        and model.distribute_strategy is tf.distribute.get_strategy()
        and not tf.distribute.has_strategy()
        and not tf.config.list_physical_devices("GPU")
        and all(
            getattr(type(model), name) is getattr(keras.Model, name) and name not in vars(model)
            for name in _KERAS_LOOP
        )
    )


def _watches_batches(callback: Any) -> bool:
    return not getattr(callback, "watches_loss", False) and not all(
        getattr(getattr(callback, hook), "_is_default", False) for hook in _BATCH_HOOKS
    )


def _fit(
    model: Any,
    x: Array,
    y: Array,
    batch_size: int,
    epochs: int = 1,
    initial_epoch: int = 0,
    validation_data: tuple[Array, Array] | None = None,
    verbose: int = 0,
    callbacks: Any = None,
) -> Any:
    import keras

    if not model.built:
        model(x[:1])
    model.optimizer.build(model.trainable_variables)
    watched = any(getattr(each, "watches_loss", False) for each in callbacks or ())
    parts = parts_of(model, batch_size, len(x))
    compiled = CompiledEpoch(model, batch_size, end_when_diverged=watched, parts=parts)
    train = as_tensor(x), as_tensor(y)
    validation = validation_data and tuple(map(as_tensor, validation_data))
    told = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=False,
        verbose=verbose,
        epochs=epochs,
        steps=-(-len(x) // batch_size),
        model=model,
    )
    model.stop_training = False
    logs: dict[str, float] = {}
    told.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        told.on_epoch_begin(epoch)
        order = np.random.permutation(len(x)).astype(np.int32)
        logs = compiled.train(*train, order)
        if validation and not (watched and not np.isfinite(logs.get("loss", 0.0))):
            told.on_test_begin()
            values = compiled.validate(*validation)
            told.on_test_end(values)
            logs |= {f"val_{name}": value for name, value in values.items()}
        told.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_weights)
    told.on_train_end(logs)
    return model.history
