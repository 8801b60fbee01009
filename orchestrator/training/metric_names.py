"""The names of Keras's logs: which exist, and whether they are minimised."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import WrongUse
from orchestrator.training.arrays import is_stream

if TYPE_CHECKING:
    import keras

    from orchestrator.training.rounds import Split

# A metric of the model itself, beside those of Keras's logs.
PARAMETERS = "parameters"
_ALWAYS = {"loss", "val_loss", PARAMETERS}
_EXAMPLES = 8
_KERAS_LOOP = ("evaluate", "train_step", "test_step", "test_on_batch", "compute_metrics")

_SHRINKS = re.compile(
    r"(^|_)(loss|error|mse|mae|mape|msle|rmse|cross_?entropy|divergence|kld?|poisson|hinge"
    r"|log_?cosh|false_positives|false_negatives|perplexity|brier|crps|parameters)(?=_|$)"
)
_GROWS = re.compile(
    r"(^|_)(acc|accuracy|auc|precision|recall|f1|f_?beta|r2|io_?u|cosine_similarity|correlation"
    r"|sensitivity|specificity|true_positives|true_negatives)(?=_|$)"
)
# Alone: some scores of a longer name are better if small.
_SCORE = re.compile(r"((train|val|test)_)?score")


def direction_of(metric: str) -> Literal["minimize", "maximize"] | None:
    """Whether a metric of this name is minimised or maximised; None: the name does not say it.

    Example:
        direction_of("val_accuracy")  # "maximize"
    """
    name = metric.lower()
    if _SCORE.fullmatch(name):
        return "maximize"
    # The name of an output stands before that of its metric: val_error_type_accuracy.
    shrinks, grows = _last_end(_SHRINKS, name), _last_end(_GROWS, name)
    if shrinks == grows:
        return None
    return "minimize" if shrinks > grows else "maximize"


def _last_end(words: re.Pattern[str], name: str) -> int:
    """Where the last of the words ends in the name; -1: there is none."""
    return max((each.end() for each in words.finditer(name)), default=-1)


def direction_of_class(metric: object) -> Literal["minimize", "maximize"] | None:
    """Whether an object of Keras's metric classes is minimised or maximised, by its class."""
    names = [cls.__name__ for cls in type(metric).__mro__]
    function = getattr(metric, "_fn", None)
    names += [getattr(function, "__name__", "")]
    for name in names:
        found = direction_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name))
        if found is not None:
            return found
    return None


def are_certain(metrics: Iterable[str]) -> bool:
    """Whether every Keras model reports them."""
    return set(metrics) <= _ALWAYS


def tested(model: keras.Model, split: Split) -> dict[str, Any] | None:
    """The logs of one tested batch; None: the model or its data cannot be tested so.

    The model is changed: a custom layer may draw random numbers, metrics are built. It must not be
    trained afterwards. A model with a loop of its own, and batches that are made anew for each
    training, are left alone.
    """
    if not _has_keras_loop(model):
        return None
    if is_stream(split.x):
        return None
    try:
        logs: dict[str, Any] = model.test_on_batch(few(split.x), few(split.y), return_dict=True)
    except Exception:  # whatever the model or its data raise, the training raises it, too
        return None
    return logs


def few(x: Any) -> Any:
    """The first examples of a nest of arrays, or the first batch of what is iterated."""
    import keras

    if is_stream(x):
        batch = x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x))
        return batch[0] if isinstance(batch, tuple) else batch
    return keras.tree.map_structure(lambda each: None if each is None else each[:_EXAMPLES], x)


def check_metrics(model: keras.Model, metrics: Iterable[str], split: Split) -> None:
    """Test one batch, to see whether the model reports the metrics; see :func:`tested`.

    Raises:
        WrongUse: it does not report one.
    """
    logs = tested(model, split)
    if logs is None:
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
