"""The terminal: how wide it is, and how a result shows outside of one."""

from __future__ import annotations

import html
import shutil
import sys


def columns() -> int:
    """The width of the terminal, or what ``COLUMNS`` says; 80 where there is none."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def table_columns() -> int | None:
    """How wide a table may be; None: what is piped is not cut for any terminal."""
    return columns() if sys.stdout.isatty() else None


class Printed:
    """A result that prints as the command line prints it, and shows so in a notebook."""

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
