"""What an objective returned, as the values of its trial."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

from orchestrator.training.errors import WrongUse

# What an objective returns by mistake may be a whole data set.
_short = reprlib.Repr()
_short.maxother = _short.maxstring = 200


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
        shown = _short.repr(returned)
        raise TypeError(f"the objective returned {shown}; it must return a number") from None
    if len(values) != count:
        raise WrongUse(
            f"the objective returned {len(values)} values, and the study has {count} metrics; "
            "name one study.metric and study.direction for each"
        )
    return values
