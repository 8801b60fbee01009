"""Presence: how many workers took part in a study, and how many of them at once."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.document import Summary, WorkerSummary
from orchestrator.report.words import counted


def took_part(summary: Summary) -> str:
    """``2 workers``, or ``4 workers, at most 2 at once``; empty where none ended a trial."""
    seen = [worker for worker in summary.workers if worker.trials]
    if not seen:
        return ""
    # Two sessions one after the other, or a process that was replaced: never all side by side.
    most = _most_at_once(seen)
    return counted(len(seen), "worker") + (f", at most {most} at once" if most < len(seen) else "")


def _most_at_once(workers: Sequence[WorkerSummary]) -> int:
    came = [(worker.joined_seconds, 1) for worker in workers]
    left = [(worker.last_seen_seconds, -1) for worker in workers]
    present = most = 0
    for _, change in sorted(came + left, reverse=True):  # the longest ago first
        present += change
        most = max(most, present)
    return most
