"""Connections: one way to open them, every failure one line."""

from __future__ import annotations

import os
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from orchestrator.errors import StorageError
from orchestrator.storage.url import mask

# A silently dropped connection is noticed within about 25 s instead of the kernel's two hours.
_KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

_MENDS = (
    ("password authentication failed", "check the user and the password"),
    ("no password supplied", "give it in the URL, in PGPASSWORD or in ~/.pgpass"),
    ("does not exist", "create it first, or correct the name"),
    ("could not translate host name", "check the host name"),
    ("Connection refused", "is the server running, and on that port?"),
    ("No such file or directory", "is the server running, and is that its socket?"),
    ("timeout expired", "check the host, the port and the firewall"),
    ("too many clients", "raise the server's max_connections or start fewer workers"),
    ("no pg_hba.conf entry", "allow this host in the server's pg_hba.conf"),
)


def connect(url: str) -> Connection:
    """Open a connection in autocommit mode; each statement is its own transaction.

    Raises:
        StorageError: the server cannot be reached or refuses us.
    """
    try:
        connection: Connection = psycopg2.connect(
            url,
            connect_timeout=int(os.environ.get("PGCONNECT_TIMEOUT", "10")),
            application_name="orch",
            **_KEEPALIVES,
        )
    except psycopg2.Error as error:
        raise StorageError(explain(error, url)) from None
    connection.autocommit = True
    return connection


def explain(error: psycopg2.Error, url: str) -> str:
    """Why the storage does not work, and the mend, in one line and without a password."""
    text = " ".join(str(error).split()) or type(error).__name__
    mend = next((mend for sign, mend in _MENDS if sign in text), "check --storage and ORCH_STORAGE")
    return f"no storage at {mask(url)}: {mask(text)}; {mend}"
