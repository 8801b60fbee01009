"""Fold: lines that say the same again and again are said once, with a count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# What differs between two processes, or two attempts, that say the same.
_PROCESS = re.compile(r"^\[\d+\] ")
_FAILED = re.compile(r"^trial \d+ (?=FAIL|failed)")


class Fold:
    """Writes each line as it comes; of equal ones in a row the first, and then how many there were.

    Args:
        write: takes a line, or the lines of one record, without the last line's end.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._key: str | None = None
        self._count = 0

    def add(self, line: str, key: str | None = None) -> None:
        """Say a line.

        Args:
            line: the line, or the lines of one record.
            key: what is compared in its place; None: the line.
        """
        key = _FAILED.sub("", _PROCESS.sub("", line if key is None else key))
        if key == self._key:
            self._count += 1
            return
        self.end()
        self._write(line)
        self._key, self._count = key, 1

    def add_output(self, text: str) -> None:
        """Say what workers wrote: whole lines, a record with its traceback at a time."""
        for record in _records(text):
            self.add(record)

    def end(self) -> None:
        """Say how often the last line came; the next one is said whatever it is."""
        if self._count > 1:
            self._write(f"… ({self._count} times)")
        self._key, self._count = None, 0


def _records(text: str) -> Iterator[str]:
    record: list[str] = []
    for line in text.splitlines():
        # A line of logging begins with its process; what follows it, as a traceback, does not.
        belongs = record and _PROCESS.match(record[0]) and not _PROCESS.match(line)
        if record and not belongs:
            yield "\n".join(record)
            record = []
        record.append(line)
    if record:
        yield "\n".join(record)
