"""A study in a notebook: a short report that is safe to show and to keep in a file."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from orchestrator.report.figures import gallery
from orchestrator.report.figures.svg import stylesheet
from orchestrator.report.numbers import clip
from orchestrator.report.summary import Summary
from orchestrator.storage.url import hide

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
