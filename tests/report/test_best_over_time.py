"""The best over time: in the JSON report, and as a view of the history on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.report.figures import gallery
from orchestrator.report.summary import Summary, TrialSummary, best_over_time


def _trial(number: int, value: float | None, ended: float | None, **others: Any) -> TrialSummary:
    given = {
        "number": number,
        "value": value,
        "ended_seconds": ended,
        "state": "COMPLETE",
        **others,
    }
    return TrialSummary.model_construct(**{"feasible": None, **given})


def test_a_trial_counts_when_it_ends_not_when_it_starts() -> None:
    trials = [
        _trial(0, 0.5, 90.0),
        _trial(1, 0.4, 20.0),
        _trial(2, 0.6, 30.0),
        _trial(3, 0.3, 95.0),
    ]
    found = best_over_time(trials, maximize=True)
    assert [(each.number, each.value, each.seconds) for each in found] == [
        (1, 0.4, 20.0),
        (2, 0.6, 30.0),
    ]
    assert [each.number for each in best_over_time(trials, maximize=False)] == [1, 3]


def test_what_may_not_win_or_has_not_ended_is_left_out() -> None:
    trials = [
        _trial(0, 0.9, None, state="RUNNING"),
        _trial(1, 0.9, 10.0, state="PRUNED"),
        _trial(2, 0.9, 11.0, feasible=False),
        _trial(3, None, 12.0),
        _trial(4, 0.1, 13.0),
    ]
    assert [each.number for each in best_over_time(trials, maximize=True)] == [4]


@pytest.mark.usefixtures("stored")
def test_the_history_has_a_view_over_time(summary_of: Callable[[str], Summary]) -> None:
    summary = summary_of("report-many")
    best = summary.best_over_time
    assert summary.best is not None and best[-1].value == summary.best.value
    assert [each.seconds for each in best] == sorted(each.seconds for each in best)
    history = gallery(summary)["The search"][0]
    [view] = history.views
    assert (history.shows, view.shows, view.key) == ("over trials", "over time", "history-time")
    ended = {t.number for t in summary.trials if t.ended_seconds is not None}
    assert {number for _, _, number in view.points} == ended
    assert re.search(r">(seconds|minutes|hours) since the start<", view.body)


@pytest.mark.usefixtures("stored")
def test_several_metrics_have_no_best_over_time(summary_of: Callable[[str], Summary]) -> None:
    summary = summary_of("report-pareto")
    assert summary.best_over_time == []
    assert all(not figure.views for figure in gallery(summary)["The search"][:2])
