"""The gallery: all figures of a report, in the order in which they are read."""

from __future__ import annotations

from orchestrator.report.document import Summary
from orchestrator.report.figures.contours import contours
from orchestrator.report.figures.effort import rungs, savings, timeline
from orchestrator.report.figures.params import importances, parallel, slices
from orchestrator.report.figures.search import curves, history, pareto
from orchestrator.report.figures.svg import Figure


def gallery(summary: Summary) -> dict[str, list[Figure]]:
    """The figures by section; those without anything to show are left out."""
    single = not summary.is_multi_objective
    wanted = {
        "The search": [pareto(summary), history(summary), curves(summary)],
        _parameters(summary): [
            importances(summary) if single else None,
            parallel(summary) if single else None,
            *(slices(summary) if single else []),
            *(contours(summary) if single else []),
        ],
        "Pruning": [rungs(summary), savings(summary)],
        "Workers": [timeline(summary)],
    }
    found = {
        section: [figure for figure in figures if figure is not None]
        for section, figures in wanted.items()
    }
    return {section: figures for section, figures in found.items() if figures}


def _parameters(summary: Summary) -> str:
    return "What mattered" if summary.importance_claim.parameter else "The parameters"
