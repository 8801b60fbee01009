"""Optuna's storage on our connections."""

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
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from orchestrator.base.optuna_internals import CachedStorage
from orchestrator.storage.connection import answer_seconds, reach, timeout_expired

_DIALECT = "postgresql+psycopg2://"


def make_rdb_storage(url: str, create: bool = False, may_write: bool = True) -> RDBStorage:
    """Optuna's RDBStorage, which connects as we do, and waits no longer than we do.

    Args:
        url: the database, as :func:`orchestrator.storage.url.normalise` writes it.
        create: make Optuna's tables and check their version; otherwise both are known to be right.
        may_write: connect to a server that takes writes; otherwise to any that the URL names.
    """
    return RDBStorage(
        _DIALECT,
        engine_kwargs=_on_ours(url, may_write),
        skip_compatibility_check=not create,
        skip_table_creation=not create,
    )


def make_engine(url: str, may_write: bool = True) -> sqlalchemy.Engine:
    """SQLAlchemy's engine alone, for a look before Optuna's: it writes as it opens."""
    return sqlalchemy.create_engine(_DIALECT, **_on_ours(url, may_write))


def _on_ours(url: str, may_write: bool) -> dict[str, Any]:
    session = {} if may_write else {"target_session_attrs": "any"}

    def open_connection() -> object:
        return connect_watched(url, **session)

    return {"creator": open_connection, "pool_size": 2, "max_overflow": 4}


def open_optuna_storage(url: str) -> BaseStorage:
    """The storage that workers, reports and the dashboard share, with finished trials cached."""
    return CachedStorage(make_rdb_storage(url))


# Watchdog: bounds the waits of ordinary connections, which Optuna's SQLAlchemy engine needs.
#
# Such a connection waits inside libpq. When its time is up, a thread shuts its socket down, and
# the wait ends as that of any lost connection.

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
