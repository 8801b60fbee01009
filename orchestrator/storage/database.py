"""A database: its one connection, the named statements, and what its server is."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection

from orchestrator.base.backoff import Stop, retry
from orchestrator.errors import StorageUnavailable
from orchestrator.storage.connection import connect, storage_error, wait
from orchestrator.storage.url import mask, normalise

_SQL = resources.files("orchestrator.storage") / "sql"
_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def statements() -> dict[str, str]:
    """Each query of ``sql/queries/`` under the name in its heading."""
    found: dict[str, str] = {}
    for path in (_SQL / "queries").iterdir():
        parts = _HEADING.split(path.read_text("utf-8"))
        found |= {key: text.strip() for key, text in zip(parts[1::2], parts[2::2], strict=True)}
    return found


def script(name: str) -> str:
    """A whole ``.sql`` file, e.g. ``"functions/claims.sql"``."""
    return _SQL.joinpath(*name.split("/")).read_text("utf-8")


Row = dict[str, Any]


class Database:
    """A PostgreSQL database by its URL; the connection opens with the first query."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: Connection | None = None
        self.connections = 0  # opened so far
        self._lock = threading.RLock()
        self._process = os.getpid()

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        """Run the named query.

        Returns:
            Its rows, each a dictionary by column name; none for a statement without a result.

        Raises:
            StorageError: the server is out of reach or refused the statement.
        """
        return self.execute(statements()[query], parameters)

    def row(self, query: str, **parameters: Any) -> Row | None:
        """The first row of the named query, or None."""
        found = self.rows(query, **parameters)
        return found[0] if found else None

    def call(self, function: str, **arguments: Any) -> Row:
        """Call a function of ``sql/functions/``: ``database.call("renew", token=token)``.

        Args:
            function: its name, without the schema.
            arguments: by their names, without the ``p_``; a list is an array.

        Returns:
            Its columns by name.

        Raises:
            StorageError: as for :meth:`rows`.
        """
        named = ", ".join(f"p_{name} => %({name})s" for name in arguments)
        given = {
            name: _array(value) if isinstance(value, list) else value
            for name, value in arguments.items()
        }
        [row] = self.execute(f"SELECT * FROM orch.{function}({named})", given)
        return row

    def execute(
        self, sql: str, parameters: dict[str, Any] | None = None, seconds: float | None = None
    ) -> list[Row]:
        """Run any SQL text, and wait for it as :func:`wait` does; see :meth:`rows`."""
        if self._process != os.getpid():
            self._forget_the_parents()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = connect(self.url)
                    self.connections += 1
                with self._connection.cursor() as cursor:
                    cursor.execute(sql, parameters)
                    wait(self._connection, seconds)
                    if not cursor.description:
                        return []
                    names = [column.name for column in cursor.description]
                    return [dict(zip(names, row, strict=True)) for row in cursor]
            except psycopg2.Error as error:
                failure = storage_error(error, self.url)
                if isinstance(failure, StorageUnavailable):
                    self.close()  # the next query finds its own way to a server
                raise failure from error
            except BaseException:  # interrupted: the answer may still come
                self.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside commits together or not at all."""
        with self._lock:
            self.execute("BEGIN")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                # An interrupted wait for an answer closes the connection, which rolls back too.
                if self._connection is None or self._connection.closed:
                    self.close()
                else:
                    self.execute("ROLLBACK")
                raise

    def _forget_the_parents(self) -> None:
        """In a forked child: what it inherited must not say a word to the parent's server."""
        self._process = os.getpid()
        self._lock = threading.RLock()  # another thread of the parent may have held it
        inherited, self._connection = self._connection, None
        # psycopg2 closes no connection of another process; whatever libpq still does, is lost.
        with contextlib.suppress(psycopg2.Error, OSError):
            if inherited is not None:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, inherited.fileno())
                os.close(nowhere)

    def close(self) -> None:
        """Close the connection; the next query opens a new one."""
        if self._process != os.getpid():
            self._forget_the_parents()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _array(values: list[Any]) -> str:
    """As PostgreSQL writes an array: it takes its parameter's type, as ARRAY[NULL] does not."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


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
    schema = "no schema yet"
    if facts["has_orch"] and (row := database.row("orch_version")):
        schema = f"schema in place (version {row['version']})"
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


Result = TypeVar("Result")


@dataclass(frozen=True)
class PatientDatabase:
    """Runs what may be repeated without harm; see :meth:`Database.rows` and :meth:`Database.call`.

    Attributes:
        database: where they run.
        patience_seconds: how long each is repeated; 0: it is not.
        stop: once it is asked, nothing is waited for.

    Raises:
        PatienceExceeded: from each method, when the database stays away longer.
    """

    database: Database
    patience_seconds: float
    stop: Stop | None = None

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        return self._ask(partial(self.database.rows, query, **parameters))

    def row(self, query: str, **parameters: Any) -> Row | None:
        return self._ask(partial(self.database.row, query, **parameters))

    def call(self, function: str, **arguments: Any) -> Row:
        return self._ask(partial(self.database.call, function, **arguments))

    def _ask(self, call: Callable[[], Result]) -> Result:
        return retry(call, self.patience_seconds, self.stop) if self.patience_seconds else call()
