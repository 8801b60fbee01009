"""Output: what trials printed, as it is stored and read."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.errors import printable
from orchestrator.storage.database import Database

LARGEST_OUTPUT = 64 * 1024  # bytes that are kept of a lease
TAIL = 2 * 1024  # characters of it that reports and the dashboard show
_MOST_FAILED = 100


@dataclass(frozen=True)
class Output:
    """What a trial printed during one lease.

    Attributes:
        lease: which one; it is not the same in two outputs.
        text: the newest part.
        lines: how many whole lines it has printed, including those dropped from the text.
        ended: nothing more comes.
    """

    lease: tuple[str, int]
    text: str
    lines: int
    ended: bool

    @property
    def is_cut(self) -> bool:
        """Whether the oldest lines were dropped from the text."""
        return self.lines > self.text.count("\n")


def read_output(database: Database, trial_id: int) -> list[Output]:
    """What a trial printed, the oldest lease first; empty: nothing.

    Raises:
        StorageError: the database is out of reach.
    """
    rows = database.rows("output_of_trial", trial_id=trial_id)
    return [
        Output((row["worker_id"], row["lease"]), expanded(row["body"]), row["lines"], row["ended"])
        for row in rows
    ]


class FailedTail(NamedTuple):
    """The last lines that a failed trial printed, by its id and its number."""

    trial_id: int
    number: int
    text: str
    ended: bool  # nothing more comes


def read_failed_tails(
    database: Database,
    study_id: int | None = None,
    trial_id: int | None = None,
    known: Collection[int] = (),
) -> list[FailedTail]:
    """The last lines that failed trials printed, the newest trial first; at most of a hundred.

    Args:
        database: where they are.
        study_id: of this study's trials.
        trial_id: or of this one.
        known: trials that are left out.

    Raises:
        StorageError: the database is out of reach.
    """
    rows = database.rows(
        "output_of_failed",
        study_id=study_id,
        trial_id=trial_id,
        known=list(known),
        most=_MOST_FAILED,
    )
    return [
        FailedTail(row["trial_id"], row["number"], tail(expanded(row["body"])), row["ended"])
        for row in rows
    ]


def compressed(text: str) -> bytes:
    """The text as it is stored."""
    return zlib.compress(text.encode())


def expanded(body: bytes | memoryview) -> str:
    """The text, without what a terminal obeys; of a body that is not one of ours, what fits."""
    try:
        # A few bytes may stand for any number of them.
        whole = zlib.decompressobj().decompress(bytes(body), LARGEST_OUTPUT)
    except zlib.error:
        return ""
    return printable(whole.decode(errors="replace"))


def tail(text: str, characters: int = TAIL) -> str:
    """The last whole lines of a text, or the end of the last one where that is longer."""
    if len(text) <= characters:
        return text
    end = text[-characters:]
    _, newline, lines = end.partition("\n")
    return lines if newline and lines else end
