"""Database: named queries on one connection, safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from orchestrator.errors import StorageUnavailable
from orchestrator.storage.connect import connect, storage_error, wait
from orchestrator.storage.statements import statements

Row = dict[str, Any]


class Database:
    """A PostgreSQL database by its URL; the connection opens with the first query."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: Connection | None = None
        self._lock = threading.RLock()

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

    def execute(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """Run any SQL text; see :meth:`rows`."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = connect(self.url)
                with self._connection.cursor() as cursor:
                    cursor.execute(sql, parameters)
                    wait(self._connection)
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

    def close(self) -> None:
        """Close the connection; the next query opens a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
