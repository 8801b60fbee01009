"""What an objective reports and returns, as the numbers of its trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.base.printed import clip
from orchestrator.errors import WrongUse
from orchestrator.storage.storable import check_step

_LONGEST = 200  # what an objective returns by mistake may be a whole data set


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
