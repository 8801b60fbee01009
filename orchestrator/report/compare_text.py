"""A comparison as text for a terminal, from 40 columns on."""

from __future__ import annotations

from functools import partial
from textwrap import wrap

from orchestrator.errors import printable
from orchestrator.report.compare import Comparison, Curve
from orchestrator.report.figures.scales import value_range
from orchestrator.report.listing import table
from orchestrator.report.numbers import counted, duration, number
from orchestrator.report.section import section
from orchestrator.report.text import Plot

_MOST_COLUMNS = 80
_LABEL, _ROWS = 20, 6
_TENTHS = (1, 2, 5, 10)


def render(comparison: Comparison, columns: int = _MOST_COLUMNS) -> str:
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
    plot = Plot(*value_range(known, comparison.direction == "maximize"), columns - _LABEL, _ROWS)
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
