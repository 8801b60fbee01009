"""Presence: when which worker trained, how many took part, and how many of them at once."""

from __future__ import annotations

from orchestrator.report.document import Summary, TrialSummary
from orchestrator.report.words import counted


def trained_between(trial: TrialSummary) -> tuple[float, float] | None:
    """When an ended trial was trained, in seconds since the first start; None: not known."""
    start, end = trial.started_seconds, trial.ended_seconds
    if start is None or end is None:
        return None
    # A paused trial did not train all the while.
    return (start if trial.seconds is None else max(start, end - trial.seconds)), end


def took_part(summary: Summary) -> str:
    """``2 workers``, or ``4 workers, at most 2 at once``; empty where none ended a trial."""
    count = sum(1 for worker in summary.workers if worker.trials)
    if not count:
        return ""
    # Two sessions one after the other, or a process that was replaced: never all side by side.
    most = _most_at_once(summary)
    return counted(count, "worker") + (f", at most {most} at once" if 0 < most < count else "")


def _most_at_once(summary: Summary) -> int:
    spans: dict[str, tuple[float, float]] = {}
    for trial in summary.trials:
        trained = trained_between(trial)
        if trained is not None and trial.worker:
            start, end = spans.get(trial.worker, trained)
            spans[trial.worker] = min(start, trained[0]), max(end, trained[1])
    changes = [change for start, end in spans.values() for change in ((start, 1), (end, -1))]
    present = most = 0
    for _, change in sorted(changes):  # of two at one moment, who leaves comes first
        present += change
        most = max(most, present)
    return most
