"""One epoch of training, and one of validation, as a TensorFlow graph each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.training.data import Array
from orchestrator.training.fused_updates import fused_updates
from orchestrator.training.shared_step import shared_step

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Logs = dict[str, float]

_ALIGNMENT_BYTES = 64  # what TensorFlow's kernels ask of memory that is not their own
# Python has a say between calls: signals are handled. Shorter calls would cost.
_CALL_SECONDS = 1.0
_FIRST_STEPS = 64


class CompiledEpoch:
    """Trains and validates a model epoch by epoch through its own ``train_step`` and ``test_step``.

    All examples are given to the graph as they lie in memory; it takes each batch from them by
    itself. Batches, their order within validation, and the last, smaller one are Keras's.

    Args:
        model: built and compiled, its optimizer built.
        batch_size: examples of a step.
        end_when_diverged: an epoch ends with the step whose loss is no number.
        parts: into how many a batch is shared out, each for a thread.
    """

    def __init__(
        self, model: keras.Model, batch_size: int, end_when_diverged: bool, parts: int = 1
    ) -> None:
        self._model = model
        self._batch_size = batch_size
        step = model.train_step if parts == 1 else shared_step(model, parts)
        self._train = _over_examples(model, step, batch_size, end_when_diverged, model.optimizer)
        self._test = _over_examples(model, model.test_step, batch_size, False, None)
        self._steps = _FIRST_STEPS

    def train(self, x: tf.Tensor, y: tf.Tensor, order: Array) -> Logs:
        """One epoch.

        Args:
            x: the examples, shape (n, ...).
            y: their labels, shape (n, ...).
            order: a permutation of 0 to n-1, the order in which they come.

        Returns:
            The model's metrics over the epoch.
        """
        return self._run(self._train, x, y, order)

    def validate(self, x: tf.Tensor, y: tf.Tensor) -> Logs:
        """The model's metrics on all examples, in their order. Arguments as of :meth:`train`."""
        return self._run(self._test, x, y, np.arange(len(x), dtype=np.int32))

    def _run(self, graph: Callable[..., Any], x: Any, y: Any, order: Array) -> Logs:
        import tensorflow as tf

        self._model.reset_metrics()
        indices = tf.constant(order)
        start, going, logs = 0, True, {}
        while start < len(order) and going:
            stop = min(start + self._steps * self._batch_size, len(order))
            began = time.monotonic()
            logs, going = graph(x, y, indices, tf.constant(start), tf.constant(stop))
            if time.monotonic() - began < _CALL_SECONDS / 2:
                self._steps *= 2
            start = stop
        return {name: float(value) for name, value in logs.items()}


def _over_examples(
    model: keras.Model,
    step: Callable[[Any], Any],
    batch_size: int,
    end_when_diverged: bool,
    optimizer: keras.optimizers.Optimizer | None,
) -> Callable[..., Any]:
    """A graph that takes steps over ``order[start:stop]``; it is traced at its first call."""
    import tensorflow as tf

    def one_step(x: Any, y: Any, batch: Any) -> Any:
        step((tf.gather(x, batch), tf.gather(y, batch)))
        if not end_when_diverged:
            return tf.constant(True)
        return tf.reduce_all(tf.math.is_finite(model.get_metrics_result().get("loss", 0.0)))

    def over_examples(x: Any, y: Any, order: Any, start: Any, stop: Any) -> Any:
        def body(at: Any, going: Any) -> Any:
            batch = order[at : tf.minimum(at + batch_size, stop)]
            return at + batch_size, one_step(x, y, batch)

        with contextlib.nullcontext() if optimizer is None else fused_updates(optimizer):
            at, going = tf.while_loop(
                lambda at, going: tf.logical_and(at < stop, going),
                body,
                (start, tf.constant(True)),
                parallel_iterations=1,
            )
        with tf.control_dependencies([at]):
            return model.get_metrics_result(), going

    # The batch's size is left open: the last, smaller batch needs no second trace.
    graph: Callable[..., Any] = tf.function(over_examples, autograph=False)
    return graph


def as_tensor(array: Array) -> tf.Tensor:
    """The array's own memory as a tensor where TensorFlow can use it, else a copy."""
    import tensorflow as tf

    # A mapped file that several processes share stays shared.
    shareable = (
        array.flags.c_contiguous
        and array.flags.writeable
        and array.ctypes.data % _ALIGNMENT_BYTES == 0
        and array.size > 0
    )
    if not shareable:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(np.asarray(array).__dlpack__())
