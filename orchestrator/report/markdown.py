"""The report as Markdown, with its figures as SVG files beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.report.figures import gallery
from orchestrator.report.figures.svg import Figure
from orchestrator.report.listing import confirmed_table
from orchestrator.report.numbers import data_sizes, number, percent, retries
from orchestrator.report.section import section
from orchestrator.report.summary import Summary
from orchestrator.report.verdict import refit_sentences
from orchestrator.spec.model import StudySpec

_MOST_BEST = 10


def render(summary: Summary, figures: str | None = None) -> str:
    """The report.

    Args:
        summary: what is reported.
        figures: how the figures' files begin, as ``"report-"``; None: without figures.
    """

    def made(title: str, make: Callable[[Summary], str], *needs: str) -> str:
        parts = [section(title, lambda: make(summary), _cell)]
        parts += [_cell(summary.missing[key]) for key in needs if key in summary.missing]
        return "\n\n".join(part for part in parts if part)

    parts = [
        f"# {summary.study}",
        " ".join(summary.verdict),
        made("The head", _head),
        made("The table of the best trials", _best, "best", "pareto"),
        made("What came after the search", _after, "confirmed", "refit"),
    ]
    if figures is not None:
        for title, drawn in gallery(summary).items():
            parts.append(f"## {title}")
            parts += [_figure(figure, figures) for figure in drawn]
    parts += [
        made("The brackets and rungs", _rungs, "rungs"),
        made("The workers", _workers, "workers"),
        made("How to do it again", _again),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure_files(summary: Summary, start: str) -> dict[str, str]:
    """The figures' files by name, for :func:`render` with the same start of their names."""
    return {
        _file_name(figure, start): figure.file()
        for drawn in gallery(summary).values()
        for figure in drawn
        if figure.body
    }


def figures_start(path: Path) -> str:
    """How the figures beside a report begin: ``report.md`` has ``report-history.svg``."""
    return f"{path.stem}-"


def _file_name(figure: Figure, start: str) -> str:
    return f"{start}{figure.key}.svg"


def _figure(figure: Figure, start: str) -> str:
    source = _file_name(figure, start)
    title = _cell(figure.title)
    if not figure.body:
        return f"### {title}\n\n{_cell(figure.caption)}"
    return f"### {title}\n\n{_cell(figure.caption)}\n\n![{title}]({source})"


def _head(summary: Summary) -> str:
    states, reason = summary.states, summary.failure_beside_success()
    mixed = "; ".join(summary.mismatches)
    rows = [
        *([["objective", f"`{summary.objective}`"]] if summary.can_run else []),
        ["metric", _metrics(summary)],
        ["strategy" if summary.can_run else "origin", summary.strategy],
        *([["drawn", summary.drawn_by]] if summary.samplers else []),
        ["trials", f"{states.complete} complete, {states.pruned} pruned, {states.failed} "
         f"failed of {summary.budget}{retries(summary.retries)}"],
        *([["last failure", reason]] if reason else []),
        *([["mixed software", mixed]] if mixed else []),
    ]  # fmt: skip
    return _table(["", ""], rows)


def _metrics(summary: Summary) -> str:
    pairs = zip(summary.metrics, summary.directions, strict=True)
    return ", ".join(f"{metric} ({direction})" for metric, direction in pairs)


def _best(summary: Summary) -> str:
    ranked = summary.ranked()
    if summary.is_multi_objective:
        ranked = [trial for trial in ranked if trial.number in summary.pareto]
    if not ranked:
        return ""
    shown = summary.shown_params()
    noisy = summary.rounds > 1
    rows = [
        [
            trial.number,
            *map(number, trial.values or []),
            *([number(trial.standard_error)] if noisy else []),
            *(number(trial.params[name]) if name in trial.params else "-" for name in shown),
        ]
        for trial in ranked[:_MOST_BEST]
    ]
    head = ["trial", *summary.metrics, *(["± standard error"] if noisy else []), *shown]
    title = "The Pareto front" if summary.is_multi_objective else "The best trials"
    return f"## {title}\n\n{_table(head, rows)}"


def _after(summary: Summary) -> str:
    """What came after the search."""
    parts = []
    if summary.confirmed is not None:
        head, rows = confirmed_table(summary.metrics[0], summary.confirmed.results)
        parts += [f"Fresh seeds, study {summary.confirmed.study}:", _table(head, rows)]
    parts += refit_sentences(summary)
    return "\n\n".join(["## After the search", *parts]) if parts else ""


def _rungs(summary: Summary) -> str:
    if not summary.rungs:
        return ""
    head = ["bracket", f"{summary.step}s", "reached", "went on"]
    rows = [[rung.bracket, rung.resource, rung.reached, rung.passed] for rung in summary.rungs]
    return f"## Brackets and rungs\n\n{_table(head, rows)}"


def _workers(summary: Summary) -> str:
    rows = [[w.id, w.trials, percent(w.busy_ratio)] for w in summary.workers if w.trials]
    return f"## Workers\n\n{_table(['worker', 'trials', 'busy'], rows)}" if rows else ""


def _again(summary: Summary) -> str:
    if not summary.can_run:
        return ""
    lines = [
        "## To do it again",
        f"Save the specification as `{summary.study}.toml`, and:",
        f"```sh\norch run {summary.study}.toml --study {summary.study}-again\n```",
        f"```toml\n{StudySpec.parse(summary.spec).to_toml().strip()}\n```",
    ]
    if summary.data:
        name, sha256 = summary.data["name"], summary.data["sha256"]
        lines.append(f"Data: {name}, {data_sizes(summary.data)} `{sha256}`.")
    packages = ", ".join(f"{name} {version}" for name, version in summary.versions.items())
    lines.append(f"Versions where this report was made: {packages}.")
    return "\n\n".join(lines)


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(_cell(str(cell)) for cell in cells) + " |"

    return "\n".join([line(head), "|" + " --- |" * len(head), *map(line, rows)])


def _cell(text: str) -> str:
    # Names and reasons are the user's: what Markdown would read as its own is taken out.
    for sign in ("\\", "|", "<", "[", "]", "*"):
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
