"""A summary in the form that is asked for, printed or written whole."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.report import table, text
from orchestrator.report.document import Summary
from orchestrator.storage.files import write_whole


def render(summary: Summary, form: str) -> str:
    """The report as ``"text"``, ``"json"``, ``"csv"`` or ``"html"``."""
    if form == "json":
        return summary.model_dump_json(indent=2) + "\n"
    if form == "csv":
        return table.render(summary)
    if form == "html":
        from orchestrator.report.html import page  # Jinja is loaded for this form alone

        return page.render(summary)
    return text.render(summary)


def write(content: str, path: Path | None) -> None:
    """Print the report, or write it so that the file is either the old one or the whole new one.

    Raises:
        OrchError: the file cannot be written.
    """
    if path is None:
        sys.stdout.write(content)
    else:
        write_file(content.encode(), path)


def write_file(content: bytes, path: Path) -> None:
    """Write a file that is either the old one or the whole new one.

    Raises:
        OrchError: it cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise OrchError(f"cannot write {path}: {error.strerror}") from None
