"""What is printed: numbers with few digits, text cut to a length, and results in any terminal."""

from __future__ import annotations

import html
import shutil
import sys

# Up to here a float tells every whole number from the next.
_EXACT = 2**53


def rounded(value: float, digits: int) -> str:
    """A number to this many digits; a whole number has all of its own."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return f"{value:.{digits}g}"


def clip(text: str, length: int) -> str:
    """The text, cut with an ellipsis where it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def escaped(text: str) -> str:
    """The text in one line: with an escape for each character that a terminal does not print."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


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
