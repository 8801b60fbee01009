"""``model.fit`` with a whole epoch compiled: the same training without Keras's work per step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.training.compiled_epoch import CompiledEpoch, Logs, Nest, as_tensor, parts_of
from orchestrator.training.data import Array

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("orch")

_OPTIONS = {
    "x", "y", "sample_weight", "class_weight", "batch_size", "epochs", "initial_epoch", "verbose",
    "callbacks", "shuffle", "validation_data", "validation_split", "validation_batch_size",
}  # fmt: skip
_DEFAULTS = {"steps_per_epoch": None, "validation_steps": None, "validation_freq": 1}
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
_BACKENDS = {"jax": "JAX", "torch": "PyTorch"}
_CACHE = "_orch_compiled_epoch"


def obstacle(model: keras.Model, arguments: Mapping[str, Any]) -> str | None:
    """What in a call of ``model.fit`` the fast fit leaves to Keras's own, in words.

    It takes a call whose results nobody can tell from Keras's.

    Args:
        model: whose ``fit`` is called; one that is set on the instance does not count.
        arguments: of the call, all by their names.

    Returns:
        The feature, e.g. ``run_eagerly``; None: :func:`fit` takes the call.

    Example:
        reason = fast_fit.obstacle(model, {"x": x, "y": y, "callbacks": callbacks})
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return f"the {_BACKENDS.get(keras.backend.backend(), keras.backend.backend())} backend"
    return (
        _obstacle_in_options(arguments)
        or _obstacle_in_process()
        or _obstacle_in_model(model)
        or _obstacle_in_callbacks(arguments.get("callbacks"))
        or _obstacle_in_data(arguments)
    )


def _obstacle_in_options(arguments: Mapping[str, Any]) -> str | None:
    for name, value in arguments.items():
        if name not in _OPTIONS and not (name in _DEFAULTS and value == _DEFAULTS[name]):
            return name
    return 'shuffle="batch"' if arguments.get("shuffle") == "batch" else None


def _obstacle_in_process() -> str | None:
    import keras
    import tensorflow as tf

    found = {
        "keras.config.set_max_epochs": keras.config.max_epochs() is not None,
        "keras.config.set_max_steps_per_epoch": keras.config.max_steps_per_epoch() is not None,
        "tf.config.run_functions_eagerly": tf.config.functions_run_eagerly(),
        "a distribution": keras.distribution.distribution() is not None,
        "a distribution strategy": tf.distribute.has_strategy(),
        "a GPU": bool(tf.config.list_physical_devices("GPU")),
    }
    return next((name for name, is_there in found.items() if is_there), None)


def _obstacle_in_model(model: Any) -> str | None:
    import keras
    import tensorflow as tf

    if not isinstance(model, keras.Model):
        return f"a model of another kind ({type(model).__name__})"
    if not model.compiled:
        return "a model that is not compiled"
    for name in _KERAS_LOOP:
        own = getattr(type(model), name) is not getattr(keras.Model, name)
        if own or (name in vars(model) and name != "fit"):
            return f"{name} of its own"
    found = {
        "run_eagerly": model.run_eagerly,
        "jit_compile": model.jit_compile,
        "a distribution strategy": model.distribute_strategy is not tf.distribute.get_strategy(),
        "a train function of its own": not all(
            map(_is_made_by_keras, (model.train_function, model.test_function))
        ),
        "layers that were frozen or released after compile()": _was_frozen(model),
    }
    return next((name for name, is_there in found.items() if is_there), None)


def _is_made_by_keras(function: Any) -> bool:
    return function is None or "Trainer._make_function" in getattr(function, "__qualname__", "")


def _was_frozen(model: Any) -> bool:
    """Whether the optimizer is of other variables: Keras's graph, if there is one, is as well."""
    if _cached(model) is not None or not getattr(model.optimizer, "built", False):
        return False
    known = getattr(model.optimizer, "_trainable_variables", model.trainable_variables)
    return set(map(id, known)) != set(map(id, model.trainable_variables))


def _obstacle_in_callbacks(callbacks: Any) -> str | None:
    for callback in _flat(callbacks):
        if _watches_batches(callback):
            return f"a callback that watches batches ({type(callback).__name__})"
    return None


def _flat(callbacks: Any) -> list[Any]:
    """The callbacks of whatever ``model.fit`` takes for them."""
    import keras

    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(keras.tree.flatten(callbacks)) if callbacks else []


def _watches_batches(callback: Any) -> bool:
    return not (
        getattr(callback, "watches_loss", False)
        or _ends_diverged(callback)
        or _saves_epochs(callback)
        or all(
            getattr(getattr(callback, hook, None), "_is_default", False) for hook in _BATCH_HOOKS
        )
    )


def _ends_diverged(callback: Any) -> bool:
    import keras

    return type(callback) is keras.callbacks.TerminateOnNaN


def _saves_epochs(callback: Any) -> bool:
    """Keras's own that have a hook of batches, and do nothing in it."""
    import keras

    savers = (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore)
    return type(callback) in savers and callback.save_freq == "epoch"


def _obstacle_in_data(arguments: Mapping[str, Any]) -> str | None:
    import keras

    data = {"x": arguments.get("x")}
    data |= {name: arguments.get(name) for name in ("y", "sample_weight")}
    if arguments.get("validation_data") is not None:
        try:
            held_out = keras.utils.unpack_x_y_sample_weight(arguments["validation_data"])
        except ValueError:
            return "validation_data that Keras refuses"
        names = ("validation x", "validation y", "validation sample_weight")
        data |= dict(zip(names, held_out, strict=True))
    reasons = [
        _refused(name, nest)
        for name, nest in data.items()
        if nest is not None or name.endswith("x")
    ]
    return next(filter(None, reasons), None)


def fit(
    model: keras.Model,
    *,
    seeds: Sequence[int],
    x: Nest,
    y: Nest = None,
    sample_weight: Nest = None,
    class_weight: Mapping[int, float] | None = None,
    batch_size: int | None = None,
    epochs: int = 1,
    initial_epoch: int = 0,
    verbose: Any = 0,
    callbacks: Any = None,
    shuffle: bool = True,
    validation_data: Any = None,
    validation_split: float = 0.0,
    validation_batch_size: int | None = None,
    **defaults: Any,
) -> keras.callbacks.History:
    """Train as ``model.fit`` does with these arguments; :func:`obstacle` has found none.

    The model's ``train_step`` and ``test_step``, its metrics, its history and the callbacks of
    epochs are Keras's. A progress bar moves once an epoch.

    A callback with ``watches_loss`` stands for one that wants an epoch to end, without validation,
    with the first step whose loss is not a finite number; its own hooks of batches are not called.

    Args:
        model: compiled.
        seeds: the order of the examples in an epoch follows from these and the epoch alone. So a
            training that continues in another process has the order that it would have had.

    Returns:
        Keras's history.

    Example:
        fast_fit.fit(model, x=x, y=y, epochs=3, verbose=0, seeds=(7,))
    """
    if validation_split and validation_data is None:
        (x, y, sample_weight), validation_data = _split(x, y, sample_weight, validation_split)
    train = _examples(x, y, sample_weight, class_weight, batch_size)
    validation = _held_out(validation_data, validation_batch_size or batch_size)
    told = _callback_list(model, callbacks, verbose, epochs, train.steps)
    compiled = _compiled(model, train, validation, told.callbacks)
    model.stop_training = False
    told.on_train_begin()
    logs = None
    for epoch in range(getattr(model, "_initial_epoch", None) or initial_epoch, epochs):
        model.reset_metrics()
        told.on_epoch_begin(epoch)
        order = _order(train.count, [*seeds, epoch] if shuffle else None)
        logs = compiled.train(train.data, order, _first_step_alone(model, model.stop_training))
        if not _diverged(logs) or not _tell_diverged(told.callbacks, compiled.steps, logs):
            logs |= _validate(model, compiled, validation, told)
        told.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    _finish(model, compiled, epochs)
    told.on_train_end(logs)
    return model.history


def _held_out(validation_data: Any, batch_size: int | None) -> _Examples | None:
    import keras

    if validation_data is None:
        return None
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(validation_data)
    return _examples(x, y, sample_weight, batch_size=batch_size)


def _callback_list(model: Any, callbacks: Any, verbose: Any, epochs: int, steps: int) -> Any:
    import keras

    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
        model=model,
    )


def _order(count: int, seeds: Sequence[int] | None) -> Array:
    if seeds is None:
        return np.arange(count, dtype=np.int32)
    random = np.random.default_rng(np.random.SeedSequence(seeds))
    return random.permutation(count).astype(np.int32)


def _first_step_alone(model: Any, stops: bool) -> int | None:
    """Keras looks whether to stop after each step, so one is taken even if it is told before."""
    return model.steps_per_execution if stops else None


def _diverged(logs: Logs) -> bool:
    return not np.isfinite(logs.get("loss", 0.0))


def _tell_diverged(callbacks: Sequence[Any], steps: int, logs: Logs) -> bool:
    """Tell those who end such a training. Returns whether there is nothing to validate."""
    for callback in filter(_ends_diverged, callbacks):
        callback.on_batch_end(steps - 1, logs)
    return any(getattr(callback, "watches_loss", False) for callback in callbacks)


def _validate(model: Any, compiled: CompiledEpoch, validation: _Examples | None, told: Any) -> Logs:
    if validation is None:
        return {}
    model.stop_evaluating = False
    told.on_test_begin()
    model.reset_metrics()
    logs = compiled.validate(validation.data, _first_step_alone(model, model.stop_evaluating))
    told.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _finish(model: Any, compiled: CompiledEpoch, epochs: int) -> None:
    import keras

    if isinstance(model.optimizer, keras.optimizers.Optimizer) and epochs > 0:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    if compiled.hidden_random:
        _log.info(
            "the model draws from TensorFlow's own random state (%s), which cannot be restored: "
            "after a restart it trains differently; keras.random with a SeedGenerator does not",
            ", ".join(sorted(compiled.hidden_random)),
        )


@dataclass(frozen=True)
class _Cached:
    """A model's graphs, for as long as Keras would keep its own: until it is compiled anew."""

    settings: tuple[int, ...]
    compiled_with: tuple[Any, Any]
    epoch: CompiledEpoch


def _cached(model: Any) -> _Cached | None:
    cached: _Cached | None = vars(model).get(_CACHE)
    if cached is None:
        return None
    optimizer, tracker = cached.compiled_with
    return cached if optimizer is model.optimizer and tracker is model._loss_tracker else None


def _compiled(
    model: Any, train: _Examples, validation: _Examples | None, callbacks: Sequence[Any]
) -> CompiledEpoch:
    _build(model, train.data)
    watched = any(
        getattr(each, "watches_loss", False) or _ends_diverged(each) for each in callbacks
    )
    parts = parts_of(model, train.batch_size, train.data)
    validation_batch_size = validation.batch_size if validation else train.batch_size
    settings = (train.batch_size, validation_batch_size, watched, parts)
    cached = _cached(model)
    if cached is None or cached.settings != settings:
        epoch = CompiledEpoch(model, *settings)
        cached = _Cached(settings, (model.optimizer, model._loss_tracker), epoch)
        vars(model)[_CACHE] = cached  # beside what Keras tracks and saves
    return cached.epoch


def _build(model: Any, data: Nest) -> None:
    """Give a Sequential without an Input its layers' weights; others get theirs in the first step.

    Without numbers: a call with real ones would move the random states of its layers.
    """
    import keras

    x = keras.utils.unpack_x_y_sample_weight(data)[0]
    if type(model) is keras.Sequential and not model.built and not keras.tree.is_nested(x):
        model(keras.KerasTensor((None, *x.shape[1:]), dtype=x.dtype.name))


# What Keras does with arrays is not written down: it turns floats into ``floatx``, Python strings
# into TensorFlow's, a Series into a column, class weights into sample weights, and leaves integers
# and booleans as they are. So its own code does it here. That code is private; where a later Keras
# moved it, ``_refused`` says so.


@dataclass(frozen=True)
class _Examples:
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


def _examples(
    x: Nest,
    y: Nest = None,
    sample_weight: Nest = None,
    class_weight: Any = None,
    batch_size: int | None = None,
) -> _Examples:
    """Arguments as of ``model.fit``, where :func:`_refused` has nothing against them.

    Raises:
        ValueError: what Keras raises for them, e.g. that they differ in length.
    """
    import keras
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    adapter = ArrayDataAdapter(
        x, y, sample_weight=sample_weight, class_weight=class_weight, batch_size=batch_size
    )
    data = keras.tree.lists_to_tuples(_converted(adapter._inputs))
    return _Examples(
        keras.tree.map_structure(_tensor, data),
        adapter.batch_size,
        adapter.num_batches,
        adapter._num_samples,
    )


def _refused(name: str, nest: Nest) -> str | None:
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


def _split(
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
