"""A report as HTML: one page, and a short frame that is safe to show and to keep in a notebook."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib.resources import files
from typing import Any

import jinja2

from orchestrator.base.printed import clip, rounded
from orchestrator.report.compare import Comparison
from orchestrator.report.figures import gallery
from orchestrator.report.figures.params import by_importance
from orchestrator.report.figures.search import comparison_figures
from orchestrator.report.figures.svg import Figure, stylesheet
from orchestrator.report.listing import confirmed_table
from orchestrator.report.numbers import counted, duration, number, percent, values_line
from orchestrator.report.section import Sections
from orchestrator.report.summary import MOST_BEST, Summary, TrialSummary, took_part
from orchestrator.report.verdict import refit_sentences
from orchestrator.spec.model import StudySpec
from orchestrator.storage.url import hide

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


_MOST_FAILED = 20
_NO_TRIALS = '{"metrics":[],"params":[],"maximize":false,"rows":[]}'


def render(summary: Summary) -> str:
    """The whole page."""
    figures, sections = gallery(summary), Sections()
    make = sections.make
    parts: dict[str, object] = {
        "tiles": make("tiles", "The tiles", partial(_tiles, summary)) or [],
        "ranked": make("best", "The table of the best trials", partial(_best, summary)),
        "parameters": make("parameters", "Which values did well", partial(good_values, summary))
        or [],
        "confirmed": make("confirmed", "The confirmation", partial(_confirmed, summary)),
        "refit": make("refit", "The refit", partial(refit_sentences, summary)) or [],
        "spec": make("spec", "The specification", partial(_specification, summary)) or "",
        "trials": make("trials", "The table of all trials", partial(_all_trials, summary))
        or _NO_TRIALS,
        "printed": make("printed", "What trials printed", partial(_printed, summary)) or [],
        "points": make("points", "What is under the pointer", partial(points, figures)) or "{}",
    }
    return environment().get_template("report.html.jinja").render(
        summary=summary,
        sections=figures,
        figures_css=stylesheet(),
        missing={**summary.missing, **sections.missing},
        **parts,
    )  # fmt: skip


def render_comparison(comparison: Comparison) -> str:
    """The page of several studies side by side."""
    return (
        environment()
        .get_template("compare.html.jinja")
        .render(
            comparison=comparison,
            title=" and ".join(clip(group.name, 40) for group in comparison.groups[:4]),
            figures=comparison_figures(comparison),
            figures_css=stylesheet(),
        )
    )


def environment() -> jinja2.Environment:
    """The templates of this folder; whatever they are given is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator.report.html", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=number, percent=percent, duration=duration)
    made.globals.update(source=_source, counted=counted)
    return made


def as_script(value: Any) -> str:
    """JSON that may stand inside a script element."""
    written = json.dumps(value, separators=(",", ":"), default=str, allow_nan=False)
    return written.replace("<", "\\u003c")


def points(sections: dict[str, list[Figure]]) -> str:
    """Where each figure has which trial, for the page's script."""
    return as_script({
        figure.key: [[round(x), round(y), trial] for x, y, trial in figure.points]
        for figures in sections.values()
        for shown in figures
        for figure in (shown, *shown.views)
        if figure.points
    })  # fmt: skip


def _source(name: str) -> str:
    return (files("orchestrator.report.html") / name).read_text(encoding="utf-8")


def _tiles(summary: Summary) -> list[tuple[str, str, str]]:
    """The figures that everybody asks for: what, how much, and a remark."""
    states, epochs, best = summary.states, summary.epochs, summary.best
    found = []
    winner = summary.winner
    if winner is not None and winner.mean is not None:
        spread = "" if winner.std is None else f", standard deviation {number(winner.std)}"
        seeds = counted(winner.seeds or 0, "fresh seed")
        remark = f"trial {winner.number}, mean of {seeds}{spread}"
        found.append((summary.metrics[0], number(winner.mean), remark))
    elif best is not None:
        remark = f"trial {best.number}"
        if best.standard_error is not None:
            remark += f", ± {number(best.standard_error)}, {best.trainings} trainings"
        elif summary.has_epochs and summary.can_run:
            remark += ", one training"
        found.append((summary.metrics[0], number(best.value), remark))
    done = states.complete + states.pruned
    parts = [f"{states.complete:,} complete", f"{states.pruned:,} pruned"]
    if states.failed:
        parts.append(f"{states.failed:,} failed")
    found.append(("trials", f"{done:,} of {summary.budget:,}", ", ".join(parts)))
    if epochs.saved_ratio is not None:
        share = percent(max(0.0, epochs.saved_ratio))
        verb = "trained" if summary.has_epochs else "run"
        remark = f"{epochs.trained:,} of {epochs.without_pruning:,} {verb}"
        found.append((f"{summary.unit}s saved", share, remark))
    if not summary.can_run:
        found += _time_of_import(summary)
        return found
    seen = [worker for worker in summary.workers if worker.trials]
    busy = [worker.busy_ratio for worker in seen if worker.busy_ratio is not None]
    share = f", {percent(sum(busy) / len(busy))} busy" if busy else ""
    known = took_part(summary) or ("" if "workers" in summary.missing else "no worker")
    remark = f"{known}{share}"
    found.append(("time", duration(summary.elapsed_seconds), remark))
    return found


def _time_of_import(summary: Summary) -> list[tuple[str, str, str]]:
    if not any(trial.seconds for trial in summary.trials):
        return []
    return [("time", duration(summary.elapsed_seconds), "from the first start to the last end")]


def _printed(summary: Summary) -> list[tuple[str, TrialSummary]]:
    """The best trials and the newest that failed, with their titles, as far as they printed."""
    best = [trial for trial in summary.ranked()[:MOST_BEST] if trial.printed]
    failed = [trial for trial in summary.trials if trial.state == "FAIL" and trial.printed]
    return [
        (f"Trial {trial.number}: {_outcome(summary, trial)}", trial)
        for trial in [*best, *reversed(failed[-_MOST_FAILED:])]
    ]


def _outcome(summary: Summary, trial: TrialSummary) -> str:
    """A trial's values, or why it failed."""
    if trial.values is None:
        return trial.reason or "failed"
    return values_line(summary.metrics, trial.values)


def _best(summary: Summary) -> tuple[list[str], list[list[str]]] | None:
    """The table of the best trials: the words of the head, and a row each."""
    ranked = summary.ranked()
    if summary.is_multi_objective:
        ranked = [trial for trial in ranked if trial.number in summary.pareto]
    if not ranked:
        return None
    noisy, shown = summary.rounds > 1, summary.shown_params()
    head = ["trial", *summary.metrics, *(["± std. error"] if noisy else []), "seconds", *shown]
    return head, [
        [
            str(trial.number),
            *map(number, trial.values or []),
            *(["-" if trial.standard_error is None else number(trial.standard_error)] * noisy),
            "-" if trial.seconds is None else f"{trial.seconds:.1f}",
            *(number(trial.params[name]) if name in trial.params else "-" for name in shown),
        ]
        for trial in ranked[:MOST_BEST]
    ]


def _confirmed(summary: Summary) -> tuple[list[str], list[tuple[object, ...]]] | None:
    if summary.confirmed is None:
        return None
    return confirmed_table(summary.metrics[0], summary.confirmed.results)


def _specification(summary: Summary) -> str:
    return StudySpec.parse(summary.spec).to_toml().strip()


def _all_trials(summary: Summary) -> str:
    """Every trial in a form that is small and that the page's script reads."""
    names = list(dict.fromkeys(name for trial in summary.trials for name in trial.params))
    return as_script({
        "metrics": summary.metrics,
        "params": names,
        "maximize": summary.maximize,
        "rows": [_row(trial, names) for trial in summary.trials],
    })  # fmt: skip


def _row(trial: TrialSummary, names: list[str]) -> list[Any]:
    values = [_short(value, 6) for value in trial.values or []]
    seconds = None if trial.seconds is None else round(trial.seconds, 1)
    return [
        trial.number, trial.state.lower(), values, seconds, len(trial.intermediate),
        [_short(trial.params.get(name)) for name in names], trial.worker, trial.retry_of,
        trial.reason,
    ]  # fmt: skip


def _short(value: Any, digits: int = 5) -> Any:
    """The value in a few digits; JSON has no infinity, which the largest floats would round to."""
    if not isinstance(value, float):
        return value if value is None or isinstance(value, bool | int | str) else str(value)
    short = float(rounded(value, digits))
    return short if math.isfinite(short) else rounded(value, digits)


_MOST_BYTES = 200_000
_MOST_TEXT = 40_000  # characters of the report's text
_MOST_REASON = 300
_STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:0 8px}pre{font:12px/1.35 monospace;"
    "overflow-x:auto}svg{max-width:100%;height:auto}"
)


def frame(name: str, read: Callable[[], Summary]) -> str:
    """The report as a sandboxed frame of at most 200 kB; it never raises.

    Args:
        name: the study's.
        read: makes its summary.
    """
    try:
        return _framed(read())
    except Exception as error:  # a notebook would show a traceback in place of the study
        reason = clip(hide(" ".join(str(error).split()), None), _MOST_REASON)
        return f"<pre>{escape(f'study {name} cannot be shown: {reason}')}</pre>"


def _framed(summary: Summary) -> str:
    verdict = "".join(f"<p>{escape(line)}</p>" for line in summary.verdict)
    head = f"<style>{stylesheet()}{_STYLE}</style><h3>{escape(summary.study)}</h3>{verdict}"
    tail = f"<pre>{escape(clip(summary.render(), _MOST_TEXT))}</pre>"
    page = _frame(head + tail)
    drawn = ""
    for figures in gallery(summary).values():
        for figure in figures:
            # The largest figures are left out; the whole page is study.report("report.html").
            longer = drawn + f"<h4>{escape(figure.title)}</h4>{figure.inline()}"
            larger = _frame(head + longer + tail)
            if len(larger.encode()) <= _MOST_BYTES:
                drawn, page = longer, larger
    return page


def _frame(content: str) -> str:
    # Without scripts, forms or an origin of its own: what a study holds comes from anywhere.
    page = escape(f'<!doctype html><meta charset="utf-8">{content}', quote=True)
    return f'<iframe sandbox srcdoc="{page}" style="width:100%;height:480px;border:0"></iframe>'
