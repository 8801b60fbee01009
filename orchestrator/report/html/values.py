"""Which values of each parameter did well: the winner's, those of the best tenth, those tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.report.document import Summary, TrialSummary
from orchestrator.report.figures.params import by_importance
from orchestrator.report.words import number

_MOST_NAMES = 3


@dataclass(frozen=True)
class GoodValues:
    """One parameter's line; the ranges as words."""

    name: str
    best: str
    good: str
    tried: str


def good_values(summary: Summary) -> list[GoodValues]:
    """A line each parameter, the most important first; empty without a complete trial."""
    ranked = summary.ranked()
    if not ranked:
        return []
    tenth = ranked[: max(1, len(ranked) // 10)]
    return [
        GoodValues(
            name,
            number(ranked[0].params[name]) if name in ranked[0].params else "-",
            _range(name, tenth),
            _range(name, summary.trials),
        )
        for name in by_importance(summary)
    ]


def _range(name: str, trials: Sequence[TrialSummary]) -> str:
    values: list[Any] = [trial.params[name] for trial in trials if name in trial.params]
    if not values:
        return "-"
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        low, high = number(min(values)), number(max(values))
        return low if low == high else f"{low} to {high}"
    names = list(dict.fromkeys(map(str, values)))
    more = "" if len(names) <= _MOST_NAMES else f" and {len(names) - _MOST_NAMES} more"
    return ", ".join(names[:_MOST_NAMES]) + more
