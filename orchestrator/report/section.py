"""A section of a report fails by itself: one line stands in its place, and the rest is whole.

What a study holds comes from its objective, and no code here knows all of it. A figure that cannot
be drawn must not cost the user the verdict, nor ``orch run`` its exit code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from orchestrator.base.printed import clip
from orchestrator.errors import StorageError
from orchestrator.storage.url import hide

_log = logging.getLogger("orch")
T = TypeVar("T")
U = TypeVar("U")

_MOST_REASON = 160  # characters


def section(title: str, make: Callable[[], T], instead: Callable[[str], U]) -> T | U:
    """Make a section; where that fails, what stands in its place.

    NumPy's error state belongs to the user's process, which may have asked it to raise: ours is
    another one while a section is made.

    Args:
        title: what the section shows, as the beginning of a sentence.
        make: makes the section.
        instead: takes the line that says why it is missing.

    Raises:
        StorageError: the database is out of reach; then there is nothing to report.
    """
    try:
        with np.errstate(all="ignore"):
            return make()
    except StorageError:
        raise
    except Exception as error:  # whatever the arithmetic or a library of drawings raises
        _log.debug("%s cannot be shown", title, exc_info=True)
        return instead(_line(title, error))


class Sections:
    """The sections of one report.

    Attributes:
        missing: the line of each section that could not be made, by its key.
    """

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}

    def make(self, key: str, title: str, make: Callable[[], T]) -> T | None:
        """Make a section; where that fails, note the line. See :func:`section`."""

        def note(line: str) -> None:
            self.missing[key] = line

        return section(title, make, note)


def _line(title: str, error: Exception) -> str:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    reason = clip(hide(reason, None), _MOST_REASON).rstrip(".")
    return f"{title} cannot be shown ({reason}). orch --debug prints the traceback."
