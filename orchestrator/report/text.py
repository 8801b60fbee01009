"""A report, and a comparison, as text for a terminal from 40 columns on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from textwrap import wrap
from typing import Any

from orchestrator.base.printed import clip, rounded
from orchestrator.errors import printable
from orchestrator.report.compare import Comparison, Curve
from orchestrator.report.figures.svg import value_range
from orchestrator.report.listing import confirmed_table, table
from orchestrator.report.numbers import (
    counted,
    data_sizes,
    duration,
    finite,
    number,
    params_line,
    percent,
    retries,
    share,
)
from orchestrator.report.section import section
from orchestrator.report.summary import Summary
from orchestrator.report.winner import Winner

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column, then row
_BLANK = 0x2800
_BARS = "▁▂▃▄▅▆▇█"
_LONGEST = 1e12  # a label is not written out beyond


class Plot:
    """A field of dots with its values at the left.

    Args:
        low: the value at the bottom.
        high: the value at the top.
        columns: characters.
        rows: characters.
    """

    def __init__(self, low: float, high: float, columns: int, rows: int) -> None:
        if low == high:
            low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
        self._low, self._high = finite(low), finite(high)
        self._columns, self._rows = columns, rows
        self._cells = [[0] * columns for _ in range(rows)]

    def dot(self, along: float, value: float) -> None:
        """A dot at a share of the width; a value outside lies on the edge."""
        if not math.isfinite(value):
            return
        x = round(min(1.0, max(0.0, along)) * (self._columns * 2 - 1))
        y = round((1 - share(value, self._low, self._high)) * (self._rows * 4 - 1))
        self._cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]

    def steps(self, points: Sequence[tuple[float, float]], until: float = 1.0) -> None:
        """A line that keeps its height from one point to the next: ``(share, value)``."""
        ends = [along for along, _ in points[1:]] + [until]
        for (along, value), end in zip(points, ends, strict=True):
            count = max(1, math.ceil((end - along) * self._columns * 2))
            for each in range(count):
                self.dot(along + each / (self._columns * 2), value)

    def lines(self) -> list[str]:
        """The plot, a line a row."""
        span = self._high - self._low
        labels = {0: _label(self._high, span), self._rows - 1: _label(self._low, span)}
        width = max(map(len, labels.values()))
        drawn = ["".join(chr(_BLANK + cell) for cell in cells) for cells in self._cells]
        return [
            f"{labels.get(row, ''):>{width}} ┤{line}".rstrip(chr(_BLANK))
            for row, line in enumerate(drawn)
        ]


def _label(value: float, span: float) -> str:
    """An end of the axis, told from the other end and from the values beside it."""
    size = abs(value)
    if size >= _LONGEST:
        return f"{value:.5g}"
    if size < 1e5 or not 0 < span < math.inf:
        return number(value)
    digits = math.ceil(math.log10(size)) + max(0, 1 - math.floor(math.log10(span)))
    return rounded(value, min(digits, 12))


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """A character a value; a blank where there is none."""

    def bar(value: float | None) -> str:
        if value is None:
            return " "
        return _BARS[round(share(value, low, high) * (len(_BARS) - 1))]

    return "".join(map(bar, values))


_BAR_WIDTH = 30
_MOST_TRIALS = 5
_MOST_NAME = 36
_MOST_COLUMNS = 80  # longer lines are hard to read
_PLOT_ROWS = 8
_LABEL = 14  # beside a plot
_LEAST_PARAMS = 16  # characters; fewer say too little
_INDENT = " " * 7


def render(summary: Summary, columns: int = _MOST_COLUMNS) -> str:
    """The whole report, a section a paragraph.

    Args:
        summary: what is reported.
        columns: of the terminal; lines are no longer, and never longer than 80.
    """
    columns = min(columns, _MOST_COLUMNS)

    def made(title: str, make: Callable[[Summary, int], str], key: str = "") -> str:
        line = summary.missing.get(key)
        if line is not None:  # unless the verdict has said it
            return "" if line in summary.verdict else _lines([line], columns)
        return section(title, lambda: make(summary, columns), lambda line: _lines([line], columns))

    sections = [
        made("The head", _head),
        _lines(summary.verdict, columns),
        made("The best trial", _best, "best"),
        made("The confirmation", _confirmed, "confirmed"),
        made("The table of the best trials", _trials),
        made("The history", _history),
        made("The curves of the best trials", _curves),
        made("The brackets and rungs", _rungs, "rungs"),
        made("The importance of the parameters", _importances, "importances"),
        made("The workers", _workers, "workers"),
    ]
    return printable("\n\n".join(each for each in sections if each) + "\n")


def _head(summary: Summary, columns: int) -> str:
    states = summary.states
    done = states.complete + states.pruned
    objective = f"{summary.objective}, " if summary.can_run else ""
    lines = [
        f"Study {summary.study}: {objective}{_metrics(summary)}, {summary.strategy}",
        f"Trials {done} of {summary.budget}: {states.complete} complete, {states.pruned} pruned"
        f", {states.failed} failed, {states.running} running, {states.waiting} waiting"
        f"{retries(summary.retries)}",
    ]
    if summary.samplers:
        lines.append(f"Drawn  {summary.drawn_by}")
    reason = summary.failure_beside_success()
    if reason:
        lines.append(f"Failed {reason}")
    if summary.data:
        name, sha256 = summary.data["name"], summary.data["sha256"]
        lines.append(f"Data   {name}: {data_sizes(summary.data)} {sha256[:12]}")
    lines += [f"Mixed  software on {mismatch}" for mismatch in summary.mismatches]
    return "\n".join(_folded(lines, columns))


def _lines(sentences: Sequence[str], columns: int) -> str:
    return "\n".join(line for each in sentences for line in wrap(each, columns))


def _history(summary: Summary, columns: int) -> str:
    """The values in the trials' order, with the best so far as a line."""
    ended = [t for t in summary.trials if t.value is not None]
    ranked = summary.ranked()
    if summary.is_multi_objective or len(ended) < 3 or not ranked:
        return ""
    values = [trial.value or 0.0 for trial in ended]
    low, high = value_range(values, summary.maximize)
    plot = Plot(low, high, columns - _LABEL, _PLOT_ROWS)
    last = max(1, ended[-1].number)
    for trial in ended:
        plot.dot(trial.number / last, trial.value or 0.0)
    plot.steps([(each / last, value) for each, value in summary.best_so_far()])
    title = wrap(f"{summary.metrics[0]} of the trials; the line is the best", columns)
    return "\n".join([*title, *plot.lines()])


def _curves(summary: Summary, columns: int) -> str:
    """The reported values of the best trials, a character each."""
    ranked = [t for t in summary.ranked() if len(t.intermediate) > 1][:_MOST_TRIALS]
    if summary.is_multi_objective or not ranked:
        return ""
    found = [v for t in ranked for v in t.intermediate.values() if v is not None]
    if not found:
        return ""
    low, high = min(found), max(found)
    head = f"values reported by the best trials, from {number(low)} to {number(high)}"
    lines = wrap(head, columns)
    for trial in ranked:
        values = list(trial.intermediate.values())
        every = max(1, -(-len(values) // (columns - 20)))
        lines.append(f"{trial.number:>5}  {sparkline(values[::every], low, high)}".rstrip())
    return "\n".join(lines)


def _metrics(summary: Summary) -> str:
    pairs = zip(summary.metrics, summary.directions, strict=True)
    return " and ".join(f"{metric} ({direction})" for metric, direction in pairs)


def _best(summary: Summary, columns: int) -> str:
    best = summary.best
    if summary.is_multi_objective:
        return _pareto(summary, columns)
    if best is None:  # the verdict says why
        return ""
    if summary.winner is not None and summary.winner.chosen_by == "confirmation":
        return _winner(summary.winner, summary.metrics[0], columns)
    several = (summary.has_epochs and best.epochs > 0) or (summary.rounds == 1 and best.epochs > 1)
    after = f" after {counted(best.epochs, summary.unit)}" if several else ""
    lines = [f"Best   {summary.metrics[0]} {number(best.value)} in trial {best.number}{after}"]
    if best.std is not None:
        lines.append(
            f"       (mean of {best.trainings} trainings, standard deviation {number(best.std)}, "
            f"standard error {number(best.standard_error)})"
        )
    elif summary.has_epochs and summary.can_run:
        lines.append("       (one training)")
    return "\n".join([*_folded(lines, columns), *_params(best.params)])


def _winner(winner: Winner, metric: str, columns: int) -> str:
    """The winner of a confirmation."""
    seeds = counted(winner.seeds or 0, "fresh seed")
    spread = "" if winner.std is None else f"standard deviation {number(winner.std)}, "
    lines = [
        f"Winner trial {winner.number} with mean {metric} {number(winner.mean)} over {seeds}",
        f"       ({spread}{number(winner.searched_value)} in the search)",
    ]
    return "\n".join([*_folded(lines, columns), *_params(winner.params)])


def _folded(lines: Sequence[str], columns: int) -> list[str]:
    return [each for line in lines for each in wrap(line, columns, subsequent_indent=_INDENT)]


def _params(params: Mapping[str, Any]) -> list[str]:
    width = max((len(name) for name in params), default=0)
    return [f"{_INDENT}{name:<{width}}  {number(value)}" for name, value in params.items()]


def _confirmed(summary: Summary, columns: int) -> str:
    """The confirmed trials over their fresh seeds."""
    confirmed = summary.confirmed
    if confirmed is None:
        return ""
    title = f"Fresh seeds (study {confirmed.study})"
    return f"{title}\n{table(*confirmed_table(summary.metrics[0], confirmed.results), columns)}"


def _trials(summary: Summary, columns: int) -> str:
    ranked = summary.ranked()
    if not ranked or summary.is_multi_objective:
        return ""
    noisy = summary.rounds > 1
    error_head = f"  {'± error':>8}" if noisy else ""
    lines = [f"{'trial':>5}  {summary.metrics[0]:>12}{error_head}  {'seconds':>7}  parameters"]
    shown = summary.shown_params()
    for trial in ranked[:_MOST_TRIALS]:
        seconds = "-" if trial.seconds is None else f"{trial.seconds:.1f}"
        error = "-" if trial.standard_error is None else number(trial.standard_error)
        shown_error = f"  {error:>8}" if noisy else ""
        head = f"{trial.number:>5}  {number(trial.value):>12}{shown_error}  {seconds:>7}  "
        params = {name: value for name, value in trial.params.items() if name in shown}
        lines += _with_params(head, params, columns)
    return "\n".join(lines)


def _with_params(head: str, params: Mapping[str, Any], columns: int) -> list[str]:
    """The parameters behind the figures, or below them where the terminal is narrow."""
    line = params_line(params)
    if columns - len(head) < min(len(line), _LEAST_PARAMS):
        return [
            head.rstrip(),
            *wrap(line, columns, initial_indent=_INDENT, subsequent_indent=_INDENT),
        ]
    return [head + clip(line, columns - len(head))]


def _pareto(summary: Summary, columns: int) -> str:
    by_number = {trial.number: trial for trial in summary.trials}
    if not summary.pareto:
        return ""
    front = sorted(summary.pareto, key=lambda each: (by_number[each].values or [0.0])[0])
    lines = wrap(
        f"Pareto front: {counted(len(front), 'trial')} that no other beats in every metric", columns
    )
    lines.append(f"{'trial':>5}" + "".join(f"  {metric:>12}" for metric in summary.metrics))
    for each in front:
        trial = by_number[each]
        values = "".join(f"  {number(value):>12}" for value in trial.values or [])
        head = f"{trial.number:>5}{values}  "
        lines += _with_params(head, trial.params, columns)
    return "\n".join(lines)


def _rungs(summary: Summary, columns: int) -> str:
    if not summary.rungs:
        return ""
    unit = f"{summary.step}s"
    lines = [f"bracket  {unit:>6}  reached  passed"]
    lines += [
        f"{rung.bracket:>7}  {rung.resource:>{max(6, len(unit))}}  {rung.reached:>7}"
        f"  {rung.passed:>6}"
        for rung in summary.rungs
    ]
    return "\n".join(lines)


def _importances(summary: Summary, columns: int) -> str:
    """The shares with their intervals; exact ones have none."""
    claim = summary.importance_claim
    if not summary.importances:
        return ""
    width = min(max(len(name) for name in summary.importances), columns - 22)
    interval = ", 95 % interval" if claim.intervals else ""
    lines = wrap(f"Importance ({claim.method}, shares of 1{interval})", columns)
    for name, importance in summary.importances.items():
        line = f"  {clip(name, width):<{width}}  {importance:4.2f}  "
        if name in claim.intervals:
            low, high = claim.intervals[name]
            line += f"{low:4.2f} to {high:4.2f}  "
        bar = "█" * round(importance * min(_BAR_WIDTH, columns - len(line)))
        lines.append(f"{line}{bar}".rstrip())
    return "\n".join(lines)


def _workers(summary: Summary, columns: int) -> str:
    seen = [worker for worker in summary.workers if worker.trials]
    if not seen:
        return ""
    most = min(_MOST_NAME, columns - 36)
    width = max(6, *(min(len(worker.id), most) for worker in seen))
    lines = [f"{'worker':<{width}}  trials  busy   last seen"]
    lines += [
        f"{clip(worker.id, max(6, most)):<{width}}  {worker.trials:>6}"
        f"  {percent(worker.busy_ratio):>5}  {duration(worker.last_seen_seconds)} ago"
        for worker in seen
    ]
    return "\n".join(lines)


_COMPARED_LABEL, _COMPARED_ROWS = 20, 6  # beside a plot, and of it
_TENTHS = (1, 2, 5, 10)  # of what was spent


def render_comparison(comparison: Comparison, columns: int = _MOST_COLUMNS) -> str:
    """The verdict, the groups, the pairs, and the best so far over trials, epochs and time."""
    columns = min(columns, _MOST_COLUMNS)

    def lines(*sentences: str) -> str:
        return "\n".join(line for each in sentences for line in wrap(each, columns))

    parts = [
        lines(*comparison.verdict),
        section("The table of the groups", lambda: _groups(comparison, columns), lines),
    ]
    if len(comparison.differences) > 1:
        parts.append(lines(*(each.sentence for each in comparison.differences)))
    if "curves" in comparison.missing:
        parts.append(lines(comparison.missing["curves"]))
    else:
        parts += [
            section("A curve", partial(_spent, comparison, index, columns), lines)
            for index in range(3)
        ]
    parts.append(lines(f"Test: {comparison.test}."))
    return printable("\n\n".join(part for part in parts if part) + "\n")


def _groups(comparison: Comparison, columns: int) -> str:
    rows = [
        [
            group.name[:28],
            len(group.studies),
            "-" if group.mean is None else number(group.mean),
            "-" if group.std is None else number(group.std),
            round(group.trials),
            round(group.epochs),
            duration(group.seconds),
        ]
        for group in comparison.groups
    ]
    head = ["group", "seeds", "mean best", "std", "trials", f"{comparison.step}s", "time"]
    return table(head, rows, columns)


def _spent(comparison: Comparison, index: int, columns: int) -> str:
    """A table of the median best at a tenth, a fifth, half and all that was spent."""
    curves = [(group.name, group.curves[index]) for group in comparison.groups]
    unit, spent = curves[0][1].unit, curves[0][1].spent
    noun = {"trials": "trial", "epochs": comparison.step}.get(unit)
    if not spent or spent[-1] <= 0:
        return ""
    places = [round(tenth * len(spent) / 10) - 1 for tenth in _TENTHS]
    head = ["best after", *(_amount(spent[place], noun) for place in places)]
    rows = [
        [name[:28], *("-" if (value := curve.median[place]) is None else number(value)
                      for place in places)]
        for name, curve in curves
    ]  # fmt: skip
    drawn = _plot(comparison, [curve for _, curve in curves], columns)
    return "\n".join([table(head, rows, columns), *drawn])


def _plot(comparison: Comparison, curves: list[Curve], columns: int) -> list[str]:
    if len(curves) != 2 or curves[0].unit != "trials":
        return []  # dots have no colours: more lines, or more plots, are not told apart
    known = [value for curve in curves for value in curve.median if value is not None]
    if not known:
        return []
    plot = Plot(
        *value_range(known, comparison.direction == "maximize"),
        columns - _COMPARED_LABEL,
        _COMPARED_ROWS,
    )
    for curve in curves:
        end = curve.spent[-1]
        plot.steps([
            (at / end, value)
            for at, value in zip(curve.spent, curve.median, strict=True)
            if value is not None
        ])  # fmt: skip
    return plot.lines()


def _amount(spent: float, noun: str | None) -> str:
    return duration(spent) if noun is None else counted(round(spent), noun)
