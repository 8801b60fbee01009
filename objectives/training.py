"""Keras training of one trial: a value after every epoch, pruning, divergence."""

from __future__ import annotations

import difflib
import gc
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from objectives.base import Trial
from objectives.data import Array, Split
from objectives.errors import ObjectiveError

if TYPE_CHECKING:
    import keras


def configure(threads: int | None) -> None:
    """Import TensorFlow and divide the machine: before the first trial, once a process.

    Args:
        threads: CPU threads of this process; None: TensorFlow takes all cores.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            # Several workers share a card: each takes what it needs, not all of it.
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow runs already in this process; it keeps what it has


def scaled(images: Array) -> Array:
    """Pixels as float32: bytes 0..255 become 0..1, other numbers stay as they are."""
    pixels = images.astype(np.float32)
    return pixels / np.float32(255) if images.dtype == np.uint8 else pixels


def fit(
    build: Callable[[], keras.Model],
    split: Split,
    trial: Trial,
    *,
    epochs: int,
    batch_size: int,
    metric: str,
) -> float:
    """Train a compiled model and report ``metric`` after each epoch.

    Args:
        build: makes the compiled model; called after the seeds are set.
        split: scaled examples, shape (n, ...), and their labels, shape (n,).
        trial: where the values go, and who says when to stop.
        epochs: epochs of a full training.
        batch_size: examples a step.
        metric: a key of Keras's logs, as ``val_accuracy``.

    Returns:
        The metric after the last epoch.

    Raises:
        optuna.TrialPruned: the pruner stopped the trial, or the loss is no longer a number.
        ObjectiveError: the model does not report that metric.
    """
    import keras

    found = trial.restore()
    done = 0 if found is None else found[0]
    # The order of the examples after a restart is another than that of the first epochs.
    keras.utils.set_random_seed((trial.seed + done) % 2**31)
    gradients = set(_custom_gradients())
    model = build()
    if found is not None:
        restore_state(model, found[1])
    reporter = make_reporter(trial, metric)
    try:
        model.fit(
            split.x_train,
            split.y_train,
            batch_size=batch_size,
            initial_epoch=done,
            epochs=epochs,
            validation_data=(split.x_validation, split.y_validation),
            verbose=0,
            callbacks=[reporter],
        )
        value = float(reporter.last)
        trial.offer_model(value, model.save)
        return value
    finally:
        # Keras holds every graph of a process until told otherwise; workers run many trials.
        del model, reporter
        keras.backend.clear_session()
        _forget_custom_gradients(gradients)
        gc.collect()


def make_reporter(trial: Trial, metric: str) -> Any:
    """A Keras callback that reports ``metric`` to ``trial`` and prunes.

    It is made in a function so that importing this module does not import Keras.
    """
    import keras

    class Reporter(keras.callbacks.Callback):  # type: ignore[misc]
        """Reports after each epoch, as step 1, 2, …"""

        last = math.nan
        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
            _check_loss(logs or {}, self.epoch)

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            logs = logs or {}
            _check_loss(logs, epoch)
            value = _metric(logs, metric)
            if not math.isfinite(value):
                raise optuna.TrialPruned(f"diverged: {metric} became {value} in epoch {epoch + 1}")
            self.last = value
            trial.report(value, epoch + 1)
            if epoch + 1 < self.params["epochs"] and trial.should_prune():
                raise optuna.TrialPruned
            trial.checkpoint(epoch + 1, lambda: capture_state(self.model))

    return Reporter()


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


def _state(model: keras.Model) -> list[Any]:
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _custom_gradients() -> dict[str, Any]:
    """TensorFlow's registry of gradient functions; empty where a later TensorFlow moved it."""
    try:
        from tensorflow.python.framework import ops

        registry: dict[str, Any] = ops.gradient_registry._registry
    except (ImportError, AttributeError):
        return {}
    return registry


def _forget_custom_gradients(known: set[str]) -> None:
    # Each trace of an optimizer step registers a function that holds its whole graph, and
    # TensorFlow never removes it: a worker grew by 8 MiB a trial, and became slower (TF 2.21).
    # Only the names that custom_gradient makes up for a trace are removed.
    registry = _custom_gradients()
    for name in set(registry) - known:
        if name.startswith("CustomGradient-"):
            del registry[name]


def _check_loss(logs: Mapping[str, Any], epoch: int) -> None:
    loss = float(logs.get("loss", 0.0))
    if not math.isfinite(loss):
        raise optuna.TrialPruned(f"diverged: loss became {loss} in epoch {epoch + 1}")


def _metric(logs: Mapping[str, Any], metric: str) -> float:
    if metric not in logs:
        close = difflib.get_close_matches(metric, list(logs), n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ObjectiveError(
            f"the model reports no metric '{metric}'; {hint}known are {', '.join(sorted(logs))}"
        )
    return float(logs[metric])
