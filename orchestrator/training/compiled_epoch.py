"""The compiled epoch of the fast fit: whole epochs in one graph, steps in parts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.training.data import Array

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Graph = Callable[..., Any]
Logs = dict[str, Any]  # numbers as float, vectors as arrays
Nest = Any  # an array or a tensor, or a dict, list or tuple of nests

# Optimizer updates as one TensorFlow operation for each variable.
#
# Keras 3 writes an update as a dozen operations, each of which goes over the whole variable in
# memory. TensorFlow has the same formula as one operation. Measured for the article's network at
# batch 32: an epoch takes three quarters of the time (docs/performance-training.md).

Update = Callable[[Any, Any, Any], None]


@contextmanager
def fused_updates(optimizer: keras.optimizers.Optimizer | None) -> Iterator[None]:
    """Within the block, steps that are traced use the fused form, where there is one.

    Clipping, weight decay, moving averages and the optimizer's variables stay Keras's own, so that
    checkpoints and saved models do not differ.
    """
    fused = _fused(optimizer)
    if optimizer is None or fused is None:
        yield
        return
    optimizer.update_step = fused
    try:
        yield
    finally:
        del optimizer.update_step


def _fused(optimizer: Any) -> Update | None:
    import keras

    # Exactly these classes: a subclass may update as it likes.
    kind = type(optimizer)
    if kind in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad:
        return _where_dense(optimizer, _adam(optimizer))
    if kind is keras.optimizers.SGD:
        return _where_dense(optimizer, _sgd(optimizer))
    return None


def _where_dense(optimizer: Any, fused: Update) -> Update:
    import tensorflow as tf

    plain = optimizer.update_step

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> None:
        # An embedding's gradient names rows; mixed precision has gradients of another type.
        dense = tf.is_tensor(gradient) and not isinstance(gradient, tf.IndexedSlices)
        if dense and gradient.dtype == variable.dtype and hasattr(variable, "handle"):
            fused(gradient, variable, tf.cast(learning_rate, variable.dtype))
        else:
            plain(gradient, variable, learning_rate)

    return update_step


def _adam(optimizer: Any) -> Update:
    """Kingma and Ba 2015, the formula before section 2.1, as Keras and TensorFlow both have it."""
    import tensorflow as tf

    def update(gradient: Any, variable: Any, learning_rate: Any) -> None:
        dtype = variable.dtype
        step = tf.cast(optimizer.iterations + 1, dtype)
        index = optimizer._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimizer._momentums[index].value.handle,
            v=optimizer._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(optimizer.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(optimizer.beta_2, dtype), step),
            lr=learning_rate,
            beta1=tf.cast(optimizer.beta_1, dtype),
            beta2=tf.cast(optimizer.beta_2, dtype),
            epsilon=tf.cast(optimizer.epsilon, dtype),
            grad=gradient,
        )

    return update


def _sgd(optimizer: Any) -> Update:
    import tensorflow as tf

    def update(gradient: Any, variable: Any, learning_rate: Any) -> None:
        if optimizer.momentum == 0:
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=learning_rate, delta=gradient
            )
            return
        index = optimizer._get_variable_index(variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=optimizer.momentums[index].value.handle,
            lr=learning_rate,
            grad=gradient,
            momentum=tf.cast(optimizer.momentum, variable.dtype),
            use_nesterov=optimizer.nesterov,
        )

    return update


# A training step whose batch is shared out among threads.
#
# TensorFlow shares out single operations, and those of a small network are too small for it: a
# second thread makes them slower. Parts of a batch have nothing to do with each other until
# their gradients are added, so each of them goes through the whole network on a thread of its
# own. The gradient of a loss that is a mean over the examples is the mean of the parts'
# gradients, weighted by their sizes; what differs from the whole batch is rounding, and that
# dropout draws for each part.

# A smaller part takes longer to hand out than it saves.
SMALLEST_PART = 32
# Each treats an example by itself, and has a dense gradient.
_BY_EXAMPLE = (
    "Activation", "AveragePooling2D", "Conv2D", "Dense", "Dropout", "Flatten",
    "GlobalAveragePooling2D", "InputLayer", "MaxPooling2D", "ReLU", "Rescaling", "Reshape",
)  # fmt: skip


def parts_of(model: keras.Model, batch_size: int, data: Nest) -> int:
    """Into how many parts the model's batches may be shared out; 1: not at all.

    Args:
        model: compiled.
        batch_size: examples of a step.
        data: of an epoch, as ``train_step`` takes them.
    """
    parts = min(_threads_side_by_side(), batch_size // SMALLEST_PART)
    last = examples_of(data) % batch_size or batch_size
    may = parts > 1 and last >= parts and _is_pair(data) and _is_by_example(model)
    return parts if may else 1


def _is_pair(data: Nest) -> bool:
    """Examples and labels, each in one array; without weights."""
    import keras

    return isinstance(data, tuple) and len(data) == 2 and not any(map(keras.tree.is_nested, data))


def _threads_side_by_side() -> int:
    """How many operations TensorFlow runs at the same time, each on one thread."""
    import tensorflow as tf

    threading = tf.config.threading
    alone = threading.get_intra_op_parallelism_threads() == 1
    return int(threading.get_inter_op_parallelism_threads()) if alone else 1


def _is_by_example(model: Any) -> bool:
    import keras

    if type(model).__name__ not in ("Functional", "Sequential"):
        return False
    layers = [getattr(keras.layers, name) for name in _BY_EXAMPLE]
    # Beside its layers a functional model may have plain operations, as a mean over the batch.
    operations = getattr(model, "operations", model.layers)
    loss = model.loss
    return (
        model.built
        and len(model.outputs) == 1
        and len(model.trainable_weights) > 0
        and (isinstance(loss, str) or getattr(loss, "reduction", None) == "sum_over_batch_size")
        and type(model.optimizer) is not keras.optimizers.LossScaleOptimizer
        and all(type(each) in layers for each in operations)
        and all(getattr(each, "activity_regularizer", None) is None for each in operations)
    )


def shared_step(model: keras.Model, parts: int) -> Callable[[Any], Any]:
    """What ``model.train_step`` does, with the batch in so many parts.

    Args:
        model: one of which :func:`parts_of` says that it may be.
        parts: at most as many as the batch has examples.
    """
    import tensorflow as tf

    def train_part(x: Any, y: Any) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=predicted, training=True)
        return predicted, loss, tape.gradient(loss, model.trainable_weights)

    def step(data: Any) -> Any:
        x, y = data
        size = tf.shape(x)[0]
        places = list(pairwise(size * part // parts for part in range(parts + 1)))
        shares = [
            tf.cast(end - start, "float32") / tf.cast(size, "float32") for start, end in places
        ]
        trained = [train_part(x[start:end], y[start:end]) for start, end in places]
        predicted, losses, gradients = zip(*trained, strict=True)

        def mean(values: Any) -> Any:
            return tf.add_n([value * share for value, share in zip(values, shares, strict=True)])

        model._loss_tracker.update_state(mean(losses), sample_weight=size)
        model.optimizer.apply_gradients(
            zip(map(mean, zip(*gradients, strict=True)), model.trainable_weights, strict=True)
        )
        whole = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *predicted)
        return model.compute_metrics(x, y, whole)

    return step


_ALIGNMENT_BYTES = 64  # what TensorFlow's kernels ask of memory that is not their own
# Python has a say between calls: signals are handled. Shorter calls would cost.
_CALL_SECONDS = 1.0
_FIRST_STEPS = 64
# These draw from a state inside TensorFlow that nobody can read or set.
_HIDDEN_RANDOM_STATE = {
    "Multinomial", "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoissonV2",
    "RandomShuffle", "RandomStandardNormal", "RandomUniform", "RandomUniformInt",
    "TruncatedNormal",
}  # fmt: skip


class CompiledEpoch:
    """Trains and validates a model epoch by epoch through its own ``train_step`` and ``test_step``.

    All examples are given to the graph as they lie in memory; it takes each batch from them by
    itself. Batches, their order within validation, and the last, smaller one are Keras's.

    Args:
        model: compiled.
        batch_size: examples of a step.
        validation_batch_size: examples of a step of the validation.
        end_when_diverged: an epoch ends with the step whose loss is not a finite number.
        parts: into how many a batch is shared out, each for a thread.

    Attributes:
        steps: that the last call took.
        hidden_random: kinds of TensorFlow operations in the training step whose random state
            cannot be kept; empty before the first step.
    """

    def __init__(
        self,
        model: keras.Model,
        batch_size: int,
        validation_batch_size: int,
        end_when_diverged: bool,
        parts: int = 1,
    ) -> None:
        self.steps = 0
        self.hidden_random: set[str] = set()
        self._batch_size = batch_size
        self._validation_batch_size = validation_batch_size
        step = model.train_step if parts == 1 else shared_step(model, parts)

        def train_step(data: Nest) -> None:
            step(data)
            self.hidden_random |= _operations_here() & _HIDDEN_RANDOM_STATE

        self._train = _over_examples(model, train_step, batch_size, end_when_diverged, fused=True)
        self._test = _over_examples(
            model, model.test_step, validation_batch_size, False, fused=False
        )
        self._calls = {self._train: _FIRST_STEPS, self._test: _FIRST_STEPS}

    def train(self, data: Nest, order: Array, steps: int | None = None) -> Logs:
        """One epoch. The metrics are those since they were last reset.

        Args:
            data: what ``train_step`` takes, with all examples, each of shape (n, ...).
            order: a permutation of 0 to n-1, the order in which they come.
            steps: end after this many; None: with the last example.

        Returns:
            The model's metrics over the epoch; one of several values is a dictionary.
        """
        return self._run(self._train, data, order, self._batch_size, steps)

    def validate(self, data: Nest, steps: int | None = None) -> Logs:
        """The model's metrics on all examples, in their order. Arguments as of :meth:`train`."""
        order = np.arange(examples_of(data), dtype=np.int32)
        return _flat(self._run(self._test, data, order, self._validation_batch_size, steps))

    def _run(
        self, graph: Graph, data: Nest, order: Array, batch_size: int, steps: int | None
    ) -> Logs:
        import tensorflow as tf

        indices = tf.constant(order)
        end = len(order) if steps is None else min(steps * batch_size, len(order))
        at, going, logs = 0, True, {}
        while at < end and going:
            stop = min(at + self._calls[graph] * batch_size, end)
            began = time.monotonic()
            at, going, logs = graph(data, indices, tf.constant(at), tf.constant(stop))
            at, going = min(int(at), end), bool(going)
            if time.monotonic() - began < _CALL_SECONDS / 2:
                self._calls[graph] *= 2
        self.steps = -(-at // batch_size)
        return dict(tf.nest.map_structure(_as_python, logs))


def _over_examples(
    model: keras.Model,
    step: Callable[[Any], Any],
    batch_size: int,
    end_when_diverged: bool,
    fused: bool,
) -> Graph:
    """A function that takes steps over ``order[start:stop]``, compiled at its first call."""
    import tensorflow as tf

    def one_step(batch: Nest) -> Any:
        step(batch)
        if not end_when_diverged:
            return tf.constant(True)
        loss = {metric.name: metric for metric in model.metrics}.get("loss")
        return (
            tf.constant(True) if loss is None else tf.reduce_all(tf.math.is_finite(loss.result()))
        )

    def over_examples(data: Nest, order: Any, start: Any, stop: Any) -> Any:
        # Where the last batch is as large as the others, Keras's have a size that a layer may ask
        # for. Where it is smaller, the size is left open: it needs no second trace.
        size = batch_size if order.shape[0] % batch_size == 0 else None

        def body(at: Any, going: Any) -> Any:
            indices = order[at : tf.minimum(at + batch_size, stop)]
            indices.set_shape([size])
            batch = tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), data)
            return at + batch_size, one_step(batch)

        with fused_updates(model.optimizer) if fused else contextlib.nullcontext():
            at, going = tf.while_loop(
                lambda at, going: tf.logical_and(at < stop, going),
                body,
                (start, tf.constant(True)),
                parallel_iterations=1,
            )
        with tf.control_dependencies([at]):
            return at, going, model.get_metrics_result()

    graph: Graph = tf.function(over_examples, autograph=False)
    return graph


def _operations_here() -> set[str]:
    """The kinds of operations in the graph that is being traced."""
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    return {operation.type for operation in graph.get_operations()}


def _as_python(value: Any) -> Any:
    array = np.asarray(value)
    return float(array.item()) if array.size == 1 and array.dtype.kind in "biuf" else array


def _flat(logs: Mapping[str, Any]) -> Logs:
    """Logs as Keras gives them to callbacks: sorted, and those of a metric beside the others."""
    flat: Logs = {}
    for name, value in sorted(logs.items()):
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat


def examples_of(data: Nest) -> int:
    """How many examples a nest of arrays or tensors has."""
    import keras

    return len(keras.tree.flatten(data)[0])


def as_tensor(array: Array) -> tf.Tensor:
    """The array's own memory as a tensor where TensorFlow can use it, else a copy."""
    import tensorflow as tf

    # A mapped file that several processes share stays shared.
    shareable = (
        array.dtype.kind in "iuf"
        and array.flags.c_contiguous
        and array.flags.writeable
        and array.ctypes.data % _ALIGNMENT_BYTES == 0
        and array.size > 0
    )
    if not shareable:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(np.asarray(array).__dlpack__())
