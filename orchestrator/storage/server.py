"""A server in words: for ``orch db status`` and ``orch doctor``."""

from __future__ import annotations

import time

from orchestrator.storage.database import Database
from orchestrator.storage.url import mask, normalise


def describe(url: str) -> str:
    """Where the server is, its version, and its round trip.

    Raises:
        StorageError: it does not answer.
    """
    database = Database(normalise(url))
    facts = database.row("server_facts")
    assert facts is not None
    started = time.monotonic()
    database.row("server_clock")
    milliseconds = (time.monotonic() - started) * 1000
    schema = "schema in place" if facts["has_orch"] else "no schema yet"
    version = facts["version"]
    database.close()
    return (
        f"{mask(database.url)}: PostgreSQL {version // 10_000}.{version % 10_000}, {schema}, "
        f"round trip {milliseconds:.1f} ms"
    )


def clock_skew_seconds(database: Database) -> float:
    """How far this machine's clock is ahead of the server's."""
    before = time.time()
    row = database.row("server_clock")
    assert row is not None
    return (before + time.time()) / 2 - float(row["seconds"])
