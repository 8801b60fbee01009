"""A SQLite file of Optuna, read from a copy: the user's file stays as it is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from orchestrator.errors import OrchError, UsageError

_HEADER = b"SQLite format 3\0"
_WAIT_SECONDS = 5.0
# What a check says of rows that Optuna reads nevertheless: older versions had other constraints.
_HARMLESS = ("NULL value in", "CHECK constraint failed", "TEXT value in", "NUMERIC value in")


def is_sqlite(path: Path) -> bool:
    """Whether the file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def copy(source: Path, target: Path, wait_seconds: float | None = None) -> None:
    """Copy the database, also one that others write to, and check the copy.

    Args:
        source: the user's file.
        target: a file that does not exist yet.
        wait_seconds: how long to wait for a writer who holds the file; None: 5 s.

    Raises:
        UsageError: it is not a database of Optuna.
        OrchError: it cannot be read, is locked, or is damaged.
    """
    if source.stat().st_size == 0:
        raise UsageError(f"{source} is empty")
    if not is_sqlite(source):
        raise UsageError(
            f"{source} is not a SQLite database, or its first page is damaged; correct the path, "
            "or restore the file from a backup"
        )
    try:
        _back_up(source, target, _WAIT_SECONDS if wait_seconds is None else wait_seconds)
        with closing(sqlite3.connect(target)) as copied:
            damaged = _damaged_parts(copied)
            tables = {} if damaged else _root_pages(copied)
    except sqlite3.DatabaseError as error:
        raise OrchError(_why(error, source)) from None
    if damaged:
        raise OrchError(
            f"{source} is damaged in {', '.join(damaged)}; nothing was written. Restore it from a "
            f"backup, or save what is readable: sqlite3 {source} .recover | sqlite3 saved.db"
        )
    if not {"studies", "trials"} <= tables.keys():
        raise UsageError(f"there is no Optuna storage in {source}")


def _back_up(source: Path, target: Path, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds

    def check(status: int, left: int, total: int) -> None:
        # A busy file is tried again for ever otherwise.
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    *first, last = _addresses(source)
    for address in first:
        try:
            _back_up_from(address, target, check)
            return
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
    _back_up_from(last, target, check)


def _addresses(source: Path) -> Iterator[str]:
    address = source.absolute().as_uri()
    yield f"{address}?mode=ro"
    if not source.with_name(f"{source.name}-wal").exists():
        # In a read-only folder, a file in WAL mode opens only as one that never changes.
        yield f"{address}?mode=ro&immutable=1"


def _back_up_from(address: str, target: Path, check: object) -> None:
    with (
        closing(sqlite3.connect(address, uri=True, timeout=0.1)) as read,
        closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written, progress=check, sleep=0.1)  # type: ignore[arg-type]


def _damaged_parts(database: sqlite3.Connection) -> list[str]:
    """The tables with damaged pages; empty: the database is whole."""
    try:
        lines = [str(row[0]) for row in database.execute("PRAGMA quick_check(20)")]
        if all(line == "ok" or line.startswith(_HARMLESS) for line in lines):
            return []
    except sqlite3.DatabaseError:
        pass
    damaged = []
    for table in _root_pages(database):
        try:
            database.execute(f'SELECT * FROM "{table}"').fetchall()
        except sqlite3.DatabaseError:
            damaged.append(f"table {table}")
    return damaged or ["its pages"]


def _root_pages(database: sqlite3.Connection) -> dict[str, int]:
    rows = database.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'")
    return {str(name): int(page) for name, page in rows}


def _why(error: sqlite3.DatabaseError, source: Path) -> str:
    reason = " ".join(str(error).split())
    if "locked" in reason:
        return f"{source} is locked by another program; try again when that has ended"
    if "malformed" in reason or "not a database" in reason:
        return (
            f"{source} is damaged in its list of tables; nothing was written. Restore it from a "
            "backup"
        )
    return f"cannot read {source}: {reason}"
