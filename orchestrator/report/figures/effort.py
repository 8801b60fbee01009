"""The effort: brackets and rungs, what pruning saved, and who trained what."""

from __future__ import annotations

import re

from orchestrator.base.printed import clip
from orchestrator.report.figures.svg import Drawing, Figure, Frame, Linear, time_unit
from orchestrator.report.numbers import counted, duration, percent
from orchestrator.report.pruning import Rung
from orchestrator.report.summary import Summary, TrialSummary

_MOST_LANES = 40
_LOST = re.compile(r"from worker (\S+) for")
Bar = tuple[float, float, TrialSummary]  # from when to when, in seconds
_FILLS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


def rungs(summary: Summary) -> Figure | None:
    """How many trials reached each rung, how many went on, and where the winner was."""
    if not summary.rungs:
        return None
    frame, row = Frame(), 24.0
    left, full = 172.0, 250.0
    most = max(rung.reached for rung in summary.rungs) or 1
    drawing = Drawing(frame)
    top = 8.0
    won = _rungs_of_winner(summary)
    bracket = None
    for rung in summary.rungs:
        if rung.bracket != bracket:
            top += 6
            drawing.text(4, top + 14, f"bracket {rung.bracket}", "strong")
            bracket = rung.bracket
        drawing.text(left - 10, top + 14, counted(rung.resource, summary.step), "tick end")
        drawing.bar("fill-soft", left, top + 3, rung.reached / most * full, 14)
        drawing.bar("fill-complete", left, top + 3, rung.passed / most * full, 14)
        end = left + rung.reached / most * full
        drawing.text(end + 8, top + 14, f"{rung.passed} of {rung.reached} went on", "tick")
        if (rung.bracket, rung.resource) in won:
            drawing.star(left + 7, top + 10)
        top += row
    caption = (
        "The whole bar reached the rung, the blue part went on; the ring is the way of the best."
    )
    return Figure("rungs", "Brackets and rungs", caption, drawing.body, frame.width, top + 8)


def _rungs_of_winner(summary: Summary) -> set[tuple[int, int]]:
    best = summary.best
    winner = next((t for t in summary.trials if best and t.number == best.number), None)
    if winner is None or not winner.intermediate:
        return set()
    reached = max(map(int, winner.intermediate))

    def is_on_the_way(rung: Rung) -> bool:
        return rung.bracket == winner.bracket and rung.resource <= reached

    return {(rung.bracket, rung.resource) for rung in summary.rungs if is_on_the_way(rung)}


def savings(summary: Summary) -> Figure | None:
    """The epochs, or steps, of all trials beside what they would be without pruning."""
    epochs = summary.epochs
    if not epochs.trained or not epochs.without_pruning:
        return None
    frame = Frame(height=104)
    left, full = 130.0, 330.0
    most = max(epochs.trained, epochs.without_pruning)
    drawing = Drawing(frame)
    for top, word, count, style in (
        (14.0, "without pruning", epochs.without_pruning, "fill-soft"),
        (56.0, "with pruning", epochs.trained, "fill-complete"),
    ):
        drawing.text(left - 10, top + 18, word, "tick end")
        drawing.bar(style, left, top, count / most * full, 28)
        drawing.text(left + count / most * full + 8, top + 18, f"{count:,}", "strong")
    return Figure(
        "savings", "What pruning saved", saved_sentence(summary), drawing.body, frame.width, 104
    )


def saved_sentence(summary: Summary) -> str:
    """What pruning saved, also in time, from the seconds that each took."""
    epochs = summary.epochs
    saved = epochs.without_pruning - epochs.trained
    unit = f"{summary.unit}s".capitalize()
    if saved <= 0:
        return f"{unit}. Pruning saved none."
    seconds = sum(trial.seconds or 0.0 for trial in summary.trials)
    each = seconds / epochs.trained
    time = f", about {duration(saved * each)} of one worker's time" if each else ""
    return f"{unit}. {saved:,} saved ({percent(epochs.saved_ratio)}){time}."


def timeline(summary: Summary) -> Figure | None:
    """A lane each worker: what it trained and when, failures and retries marked."""
    lanes = _lanes(summary)
    if not lanes:
        return None
    shown = list(lanes)[:_MOST_LANES]
    row = 26.0 if len(shown) <= 12 else 18.0
    frame = Frame(
        width=1120, height=30 + len(shown) * row + 46, left=170, right=64, top=26, bottom=46
    )
    drawing = Drawing(frame)
    last = max(end for bars in lanes.values() for _, end, _ in bars)
    x, unit = _time_axis(drawing, frame, last)
    drawing.text(frame.width - 8, 15, "busy", "tick end")
    points: list[tuple[float, float, int]] = []
    for index, worker in enumerate(shown):
        top = frame.y1 + 2 + index * row
        drawing.text(frame.x0 - 10, top + row / 2 + 2, clip(worker, 24), "tick end")
        drawing.text(frame.width - 8, top + row / 2 + 2, _busy(summary, worker), "tick end")
        points += _lane(drawing, lanes[worker], x, unit, top, row - 6)
    left_out = len(lanes) - len(shown)
    more = f" {counted(left_out, 'further worker')} left out." if left_out else ""
    caption = (
        "Blue is complete, grey is pruned, a cross is a failed or lost attempt, a white bar at "
        f"the start is a retry; at the right the busy share.{more}"
    )
    return Figure(
        "timeline", "Who trained what", caption, drawing.body, frame.width, frame.height, points,
        size="wide",
    )  # fmt: skip


def _lanes(summary: Summary) -> dict[str, list[Bar]]:
    lanes: dict[str, list[Bar]] = {}
    for trial in summary.trials:
        trained = _trained(trial)
        # Of an imported trial nobody knows the worker.
        known = bool(trial.worker) or not summary.is_imported(trial)
        if known and trained is not None and trial.state in _FILLS:
            lanes.setdefault(_lane_of(trial), []).append((*trained, trial))
    return lanes


def _trained(trial: TrialSummary) -> tuple[float, float] | None:
    start, end = trial.started_seconds, trial.ended_seconds
    if start is None or end is None:
        return None
    if trial.seconds is None:
        return start, end
    # A paused trial did not train all the while: before its pause, if its plan ended it there.
    if trial.paused:
        return start, min(end, start + trial.seconds)
    return max(start, end - trial.seconds), end


def _lane_of(trial: TrialSummary) -> str:
    lost = _LOST.search(trial.reason or "")
    if trial.worker or lost:
        return trial.worker or (lost[1] if lost else "")
    # A promotion's trial that ended its round: whoever ends the bracket prunes it.
    return "paused, then pruned" if trial.state == "PRUNED" else "ended from outside"


def _time_axis(drawing: Drawing, frame: Frame, last: float) -> tuple[Linear, float]:
    """The scale and its unit in seconds."""
    unit, word = time_unit(last)
    x = Linear(0.0, last / unit or 1.0, frame.x0, frame.x1, 8)
    for index, (at, tick) in enumerate(x.ticks()):
        drawing.path("grid", f"M{at:.1f} {frame.y0:g}V{frame.y1 - 4:g}")
        drawing.text(at, frame.y0 + 17, tick, "tick middle" + (" minor" if index % 2 else ""))
    middle = (frame.x0 + frame.x1) / 2
    drawing.text(middle, frame.height - 7, f"{word} since the start", "label middle")
    return x, unit


def _lane(
    drawing: Drawing,
    bars: list[Bar],
    x: Linear,
    unit: float,
    top: float,
    height: float,
) -> list[tuple[float, float, int]]:
    paths: dict[str, dict[str, None]] = {}
    points, lost = [], []
    for start, end, trial in bars:
        left, right = x.place(start / unit) or 0.0, x.place(end / unit) or 0.0
        wide = max(1.0, right - left - 0.8)
        rectangle = f"M{left:.1f} {top:.1f}h{wide:.1f}v{height:g}h{-wide:.1f}z"
        paths.setdefault(_FILLS[trial.state], {})[rectangle] = None
        points.append(((left + right) / 2, top + height / 2, trial.number))
        if trial.state == "FAIL":
            lost.append((right, top + height / 2))
        if trial.retry_of is not None:
            mark = f"M{left + 1.5:.1f} {top + 2:.1f}h2v{height - 4:g}h-2z"
            paths.setdefault("retry", {})[mark] = None
    for style, rectangles in paths.items():
        drawing.path(f"fill-{style}", "".join(rectangles))
    drawing.crosses("failed", lost)
    return points


def _busy(summary: Summary, worker: str) -> str:
    found = next((each for each in summary.workers if each.id == worker), None)
    return percent(found.busy_ratio) if found else "-"
