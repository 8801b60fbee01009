"""The names of Keras's logs, known before the first epoch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from orchestrator.errors import WrongUse
from orchestrator.training.data import Array

if TYPE_CHECKING:
    import keras

# A metric of the model itself, beside those of Keras's logs.
PARAMETERS = "parameters"
_ALWAYS = {"loss", "val_loss", PARAMETERS}
_EXAMPLES = 8
_KERAS_LOOP = ("fit", "evaluate", "train_step", "test_step", "test_on_batch", "compute_metrics")


def are_certain(metrics: Iterable[str]) -> bool:
    """Whether every Keras model reports them."""
    return set(metrics) <= _ALWAYS


def check_metrics(model: keras.Model, metrics: Iterable[str], x: Array, y: Array) -> None:
    """Test one batch, to see whether the model reports the metrics.

    The model is changed: a custom layer may draw random numbers, metrics are built. It must not be
    trained afterwards. Nothing is said where the batch cannot be tested, or the model has a loop of
    its own.

    Raises:
        WrongUse: it does not report one.
    """
    if not _has_keras_loop(model):
        return
    try:
        logs = model.test_on_batch(x[:_EXAMPLES], y[:_EXAMPLES], return_dict=True)
    except Exception:  # whatever the model or its data raise, the training raises it, too
        return
    known = [*logs, *(f"val_{name}" for name in logs), PARAMETERS]
    for metric in metrics:
        if metric not in known:
            raise unknown_metric(metric, known)


def unknown_metric(metric: str, known: Iterable[str]) -> WrongUse:
    """The error of a metric that a model does not report."""
    names = sorted(known)
    close = difflib.get_close_matches(metric, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return WrongUse(f"the model reports no metric '{metric}'; {hint}known are {', '.join(names)}")


def _has_keras_loop(model: Any) -> bool:
    import keras

    return model.compiled and all(
        getattr(type(model), name) is getattr(keras.Model, name) and name not in vars(model)
        for name in _KERAS_LOOP
    )
