"""What an objective returned, as the values of its trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.errors import WrongUse
from orchestrator.worker.endings import clip

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
