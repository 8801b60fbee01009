"""A summary in the form that is asked for, printed or written whole."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict

from orchestrator.base.extras import require
from orchestrator.base.files import check_writable, write_whole
from orchestrator.errors import OrchError, UsageError, nearest
from orchestrator.report import cv_results, markdown, text
from orchestrator.report.compare import Comparison
from orchestrator.report.section import Sections, section
from orchestrator.report.summary import Summary


class Shown(TypedDict):
    """Which parts of a summary are read; see ``summarise``."""

    thorough: bool
    logs: Literal["none", "drawn", "all"]


# What each form shows: the importances by fANOVA, and which trials' logs.
_FORMS: dict[str, Shown] = {
    "text": {"thorough": False, "logs": "none"},
    "json": {"thorough": True, "logs": "all"},
    "csv": {"thorough": False, "logs": "all"},
    "markdown": {"thorough": True, "logs": "drawn"},
    "html": {"thorough": True, "logs": "drawn"},
    "parquet": {"thorough": False, "logs": "all"},
}
_SUFFIXES = {
    ".txt": "text", ".json": "json", ".csv": "csv", ".md": "markdown", ".html": "html",
    ".parquet": "parquet",
}  # fmt: skip


def shown_in(form: str) -> Shown:
    """What a form shows, as arguments of ``summarise``: no more is read for it.

    Raises:
        UsageError: the form needs a package that is not installed.
    """
    if form == "parquet":
        require("pyarrow", "parquet", "a report as parquet")
    return _FORMS[form]


def format_of(path: Path | str | None, form: str | None) -> str:
    """The format that is asked for, else that of the file's name, else text.

    Raises:
        UsageError: it is unknown.
    """
    if form is not None:
        if form not in _FORMS:
            raise UsageError(f"unknown format '{form}'; {nearest(form, _FORMS)}")
        return form
    if path is None:
        return "text"
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise UsageError(f"the name {path} says no format; end it in one of {known}")
    return _SUFFIXES[suffix]


def render(summary: Summary, form: str, columns: int = 80) -> str:
    """The report as ``"text"``, ``"json"``, ``"csv"``, ``"markdown"`` or ``"html"``.

    Args:
        summary: what is reported.
        form: one of these.
        columns: how wide text may be.

    Raises:
        UsageError: parquet is not text.
    """
    if form == "parquet":
        raise UsageError("parquet is not text; write it to a file, e.g. trials.parquet")
    if form == "json":
        return _as_json(summary)
    if form == "csv":
        return cv_results.render(summary)
    if form == "markdown":
        return markdown.render(summary)
    if form == "html":
        from orchestrator.report import page  # Jinja is loaded for this form alone

        return page.render(summary)
    return text.render(summary, columns)


def write(summary: Summary, form: str, path: Path) -> list[Path]:
    """Write the report, text in UTF-8; each file is either the old one or the whole new one.

    Returns:
        The files beside it: the figures of Markdown, and of CSV what the trials log.

    Raises:
        OrchError: a file cannot be written.
        UsageError: a package is missing.
    """
    start, beside = markdown.figures_start(path), dict[str, str]()
    if form == "parquet":
        write_file(cv_results.render_parquet(summary), path)
        return []
    if form == "markdown":
        beside, content = markdown.figure_files(summary, start), markdown.render(summary, start)
    else:
        content = render(summary, form)
    if form == "csv" and any(trial.logs for trial in summary.trials):
        beside = {f"{start}logs.csv": cv_results.render_logs(summary)}
    # The files beside it first: once the report exists, they exist, too.
    for name, part in beside.items():
        write_file(part.encode(), path.with_name(name))
    write_file(content.encode(), path)
    return [path.with_name(name) for name in beside]


def render_comparison(comparison: Comparison, form: str, columns: int = 80) -> str:
    """A comparison as ``"text"``, ``"json"`` or ``"html"``."""
    if form == "json":
        return _as_json(comparison)
    if form == "html":
        from orchestrator.report import page

        return page.render_comparison(comparison)
    return text.render_comparison(comparison, columns)


def _as_json(document: Summary | Comparison) -> str:
    """The document; a part that JSON cannot hold is null, and named in ``missing``."""

    def without_faults(line: str) -> str:
        sections = Sections()
        parts = {
            key: sections.make(key, f"'{key}'", partial(_part, document, key))
            for key in type(document).model_fields
        }
        parts["missing"] = {**document.missing, **sections.missing}
        return json.dumps(parts, indent=2)

    made = section("The report", lambda: document.model_dump_json(indent=2), without_faults)
    return f"{made}\n"


def _part(document: Summary | Comparison, key: str) -> Any:
    return json.loads(document.model_dump_json(include={key}))[key]


def schema() -> str:
    """The JSON Schema of the report's JSON (draft 2020-12)."""
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Summary.model_json_schema(mode="serialization"),
    }
    return json.dumps(made, indent=2) + "\n"


def write_file(content: bytes, path: Path) -> None:
    """Write a file that is either the old one or the whole new one.

    Raises:
        OrchError: it cannot be written.
    """
    check_out(path)
    try:
        write_whole(path, content)
    except OSError as error:
        raise OrchError(f"cannot write {path}: {error.strerror}") from None


def check_out(path: Path) -> None:
    """Check that ``--out`` can be written, before minutes are spent on what goes there.

    Raises:
        OrchError: it cannot.
    """
    if not path.parent.is_dir():
        raise OrchError(f"no folder {path.parent}; make it, or correct --out")
    try:
        check_writable(path)
    except OSError as error:
        raise OrchError(f"cannot write {path}: {error.strerror}; correct --out") from None
