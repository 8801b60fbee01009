"""What an objective reports, logs and returns, as the numbers of its trial."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.errors import WrongUse
from orchestrator.storage.storable import LONGEST_NAME, Logs, check_step, clean
from orchestrator.worker.endings import clip

_logger = logging.getLogger("orch")

_LONGEST = 200  # what an objective returns by mistake may be a whole data set
_MOST_ELEMENTS = 100  # a metric may be an array with a value for each class, not a whole matrix


def as_values(returned: Any, count: int) -> list[float]:
    """The values, one for each metric.

    Args:
        returned: a number, or a sequence of numbers.
        count: how many metrics the study has.

    Raises:
        TypeError: it is something else.
        WrongUse: the study has another number of metrics.
    """
    numbers = list(returned) if isinstance(returned, Sequence) else [returned]
    try:
        if isinstance(returned, str):  # a sequence, too
            raise TypeError
        values = [float(number) for number in numbers]
    except (TypeError, ValueError):
        shown = clip(repr(returned), _LONGEST)
        raise TypeError(f"the objective returned {shown}; it must return a number") from None
    if len(values) != count:
        raise WrongUse(
            f"the objective returned {len(values)} values, and the study has {count} metrics; "
            "name one study.metric and study.direction for each"
        )
    return values


def as_value(value: Any) -> float:
    """A reported value.

    Raises:
        TypeError: it is not a number.
    """
    try:
        return float(value)
    except (TypeError, ValueError):  # in Optuna's words
        raise TypeError(
            f"The `value` argument is of type '{type(value)}' but supposed to be a float."
        ) from None


def as_step(step: Any) -> int:
    """The step of a reported value.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is negative, or more than the database can store.
    """
    try:
        whole = int(step)
    except (TypeError, ValueError):
        raise TypeError(
            f"The `step` argument is of type '{type(step)}' but supposed to be an int."
        ) from None
    if whole < 0:
        raise ValueError(f"`step={whole}` must be non-negative.")
    check_step(whole)
    return whole


def as_logs(metrics: Mapping[str, Any], step: Any) -> Logs:
    """What an objective logs of a step.

    An array or a sequence is logged element by element, and a mapping by its keys: ``f1/0``,
    ``f1/1``. A name is cut to what can be stored.

    Raises:
        TypeError: it is not a mapping, or a value is not a number.
        ValueError: the step is negative, or more than the database can store.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"what is logged is of type '{type(metrics)}' but supposed to be a mapping of names "
            "to numbers"
        )
    whole = as_step(step)
    return {
        (whole, name): value
        for key, given in metrics.items()
        for name, value in _named_numbers(clean(str(key))[:LONGEST_NAME], given)
    }


def _named_numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _named_numbers(clean(f"{name}/{key}")[:LONGEST_NAME], each)
        return
    try:
        if not getattr(value, "ndim", 0) and not isinstance(value, list | tuple):
            yield name, float(value)
            return
        elements = np.asarray(value, np.float64).ravel().tolist()
    except (TypeError, ValueError, OverflowError):
        shown = clip(repr(value), _LONGEST)
        raise TypeError(f"the value logged as {name!r} is {shown}; it must be a number") from None
    if len(elements) > _MOST_ELEMENTS:
        _logger.warning(
            "%r is not logged: it has %d elements, and at most %d of a name are kept",
            name, len(elements), _MOST_ELEMENTS,
        )  # fmt: skip
    elif len(elements) == 1:
        yield name, elements[0]
    else:
        yield from ((f"{name[: LONGEST_NAME - 4]}/{n}", each) for n, each in enumerate(elements))
