"""Figures: drawings of a summary as SVG, for the HTML page and beside the Markdown report.

A figure is drawn once, here, whatever shows it: vectors print well, need no script and no network,
and take their colours from ``figures.css``, light or dark. Lengths are in user units, which are
pixels where the figure is as wide as it was drawn.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.report.figures.effort import rungs, savings, timeline
from orchestrator.report.figures.params import contours, importances, parallel, slices
from orchestrator.report.figures.search import curves, history, pareto
from orchestrator.report.figures.svg import Figure, not_drawn
from orchestrator.report.section import section
from orchestrator.report.summary import Summary


def gallery(summary: Summary) -> dict[str, list[Figure]]:
    """The figures by section; those without anything to show are left out."""

    def drawn(key: str, title: str, draw: Callable[[Summary], Figure | None]) -> list[Figure]:
        return several(key, title, lambda each: list(filter(None, [draw(each)])))

    def several(key: str, title: str, draw: Callable[[Summary], list[Figure]]) -> list[Figure]:
        line = summary.missing.get(key)
        if line is not None:
            return [not_drawn(key, title, line)]
        return section(
            f"The figure '{title}'",
            lambda: draw(summary),
            lambda line: [not_drawn(key, title, line)],
        )

    single = not summary.is_multi_objective
    wanted = {
        "The search": [
            *drawn("pareto", "Pareto front", pareto),
            *drawn("history", "Optimisation history", history),
            *drawn("curves", "Learning curves", curves),
        ],
        _parameters(summary): [
            *drawn("importances", "Importance of the parameters", importances),
            *drawn("parallel", "Parallel coordinates", parallel),
            *several("slices", "Slices", slices),
            *several("contours", "Contours", contours),
        ]
        if single
        else [],
        "Pruning": [
            *drawn("rungs", "Brackets and rungs", rungs),
            *drawn("savings", "What pruning saved", savings),
        ],
        "Workers": drawn("timeline", "Who trained what", timeline),
    }
    return {title: figures for title, figures in wanted.items() if figures}


def _parameters(summary: Summary) -> str:
    return "What mattered" if summary.importance_claim.parameter else "The parameters"
