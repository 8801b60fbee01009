"""A training step whose batch is shared out among threads.

TensorFlow shares out single operations, and those of a small network are too small for it: a second
thread makes them slower. Parts of a batch have nothing to do with each other until their gradients
are added, so each of them goes through the whole network on a thread of its own. The gradient of a
loss that is a mean over the examples is the mean of the parts' gradients, weighted by their sizes;
what differs from the whole batch is rounding, and that dropout draws for each part.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# A smaller part takes longer to hand out than it saves.
SMALLEST_PART = 32
# Each treats an example by itself, and has a dense gradient.
_BY_EXAMPLE = (
    "Activation", "AveragePooling2D", "Conv2D", "Dense", "Dropout", "Flatten",
    "GlobalAveragePooling2D", "InputLayer", "MaxPooling2D", "ReLU", "Rescaling", "Reshape",
)  # fmt: skip


def parts_of(model: keras.Model, batch_size: int, examples: int) -> int:
    """Into how many parts the model's batches may be shared out; 1: not at all.

    Args:
        model: built and compiled.
        batch_size: examples of a step.
        examples: of an epoch.
    """
    parts = min(_threads_side_by_side(), batch_size // SMALLEST_PART)
    last = examples % batch_size or batch_size
    return parts if parts > 1 and last >= parts and _is_by_example(model) else 1


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
        len(model.outputs) == 1
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
        return model.compute_metrics(x, y, tf.concat(predicted, 0))

    return step
