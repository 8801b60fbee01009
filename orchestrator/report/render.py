"""A summary in the form that is asked for, printed or written whole."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.report import text
from orchestrator.report.summary import Summary


def render(summary: Summary, form: str) -> str:
    """The report as ``"text"`` or ``"json"``."""
    if form == "json":
        return summary.model_dump_json(indent=2) + "\n"
    return text.render(summary)


def write(content: str, path: Path | None) -> None:
    """Print the report, or write it so that the file is either the old one or the whole new one.

    Raises:
        OrchError: the file cannot be written.
    """
    if path is None:
        sys.stdout.write(content)
        return
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OrchError(f"cannot write {path}: {error.strerror}") from None
