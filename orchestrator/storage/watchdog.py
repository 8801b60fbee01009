"""Watchdog: bounds the waits of ordinary connections, which Optuna's SQLAlchemy engine needs.

Such a connection waits inside libpq. When its time is up, a thread shuts its socket down, and the
wait ends as that of any lost connection.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from orchestrator.storage.connection import answer_seconds, reach, timeout_expired

_LINGER_SECONDS = 1.0


class _Watchdog:
    """The thread, which runs while something is watched, and a moment longer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: dict[WatchedConnection, float] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf

    def watch(self, connection: WatchedConnection, seconds: float) -> None:
        with self._changed:
            deadline = self._deadlines[connection] = time.monotonic() + seconds
            if self._thread is None or not self._thread.is_alive():  # none lives on in a fork
                self._thread = threading.Thread(target=self._work, name="orch watch", daemon=True)
                self._thread.start()
            elif deadline < self._wakes_at:
                self._changed.notify()

    def release(self, connection: WatchedConnection) -> None:
        with self._changed:
            self._deadlines.pop(connection, None)

    def _work(self) -> None:
        with self._changed:
            while self._deadlines:
                now = time.monotonic()
                for connection, deadline in list(self._deadlines.items()):
                    if deadline <= now:
                        del self._deadlines[connection]
                        connection.cut()
                self._wakes_at = min([now + _LINGER_SECONDS, *self._deadlines.values()])
                self._changed.wait(self._wakes_at - now)
            self._thread = None


_watchdog = _Watchdog()


class _WatchedCursor(Cursor):
    def execute(self, query: Any, vars: Any = None) -> None:
        with self._connection().bounded():
            super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        with self._connection().bounded():
            super().executemany(query, vars_list)

    def _connection(self) -> WatchedConnection:
        connection = self.connection
        assert isinstance(connection, WatchedConnection)
        return connection


class WatchedConnection(Connection):
    """An ordinary connection of psycopg2 whose statements have a deadline."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = _WatchedCursor
        self._is_cut = False
        # A descriptor of our own: libpq may close its one at any time, and the number may then
        # belong to somebody else.
        self._line = os.dup(self.fileno())
        self._close_line = weakref.finalize(self, os.close, self._line)

    def commit(self) -> None:
        with self.bounded():
            super().commit()

    def rollback(self) -> None:
        with self.bounded():
            super().rollback()

    def close(self) -> None:
        super().close()
        self._close_line()

    def cut(self) -> None:
        """End whatever waits for this connection."""
        self._is_cut = True
        with (
            contextlib.suppress(OSError),  # it is cut already
            socket.socket(fileno=os.dup(self._line)) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Cut the connection when the block waits for too long."""
        seconds = answer_seconds()
        _watchdog.watch(self, seconds)
        try:
            yield
        except psycopg2.Error as error:
            if self._is_cut:
                raise timeout_expired(seconds) from error
            raise
        except BaseException:
            self.close()  # its answer may still come
            raise
        finally:
            _watchdog.release(self)


def connect_watched(url: str, **parameters: str) -> WatchedConnection:
    """Open an ordinary connection, in psycopg2's usual transaction mode, under the watchdog.

    Args:
        url: the database.
        parameters: libpq's, in place of our own.

    Raises:
        StorageUnavailable: the server cannot be reached or refuses us.
    """

    def open_one(own: dict[str, Any], seconds: float) -> WatchedConnection:
        connection: WatchedConnection = psycopg2.connect(
            url,
            connection_factory=WatchedConnection,
            **{**own, "connect_timeout": math.ceil(seconds), **parameters},
        )
        return connection

    return reach(url, open_one)
