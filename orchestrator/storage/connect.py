"""Connections: one way to open them, no wait without an end, every failure one line."""

from __future__ import annotations

import os
import re
import select
import time
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import connection as Connection

from orchestrator.errors import StorageError, StorageRefused, StorageUnavailable
from orchestrator.storage.url import hide, mask

# A statement without an answer for so long: the server or the way to it is gone, even where
# TCP itself does not notice (a frozen server, a firewall that forgot the connection).
_answer_seconds = 30.0

_KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    # Of several hosts in the URL, the one that takes writes.
    "target_session_attrs": "read-write",
}

_MENDS = (
    ("password authentication failed", "check the user and the password"),
    ("no password supplied", "give it in ~/.pgpass, PGPASSWORD or ORCH_PASSWORD_FILE"),
    (
        "permission denied",
        "this role may not do that; use the owner's, or after an upgrade run: orch db roles",
    ),
    ("must be owner", "this role may not do that; use the owner's"),
    (
        "certificate verify failed",
        "sslrootcert must name the certificate that the server's own is signed with",
    ),
    ("does not match host name", "name the server in the URL as its certificate does"),
    (
        "root certificate file",
        "copy the server's root certificate there, or name it in sslrootcert",
    ),
    ("valid client certificate", "name yours in sslcert and sslkey, or PGSSLCERT and PGSSLKEY"),
    ("alert unknown ca", "the server's ssl_ca_file must name who signed the one of sslcert"),
    ("private key file", "sslkey must name the key of sslcert's certificate, with mode 600"),
    ("certificate authentication failed", "that certificate is for another user"),
    ("does not support SSL", "the server has no TLS; set ssl = on there"),
    ("definition of service", "name a service of ~/.pg_service.conf or PGSERVICEFILE"),
    ("session is read-only", "the server is in recovery; name the primary"),
    ("does not exist", "create it first, or correct the name"),
    ("could not translate host name", "check the host name"),
    ("Connection refused", "is the server running, and on that port?"),
    ("No such file or directory", "is the server running, and is that its socket?"),
    ("timeout expired", "check the host, the port and the firewall"),
    ("too many clients", "raise the server's max_connections or start fewer workers"),
    ("no encryption", "the server wants TLS; add sslmode=verify-full to the URL"),
    ("no pg_hba.conf entry", "allow this host in the server's pg_hba.conf"),
    ("No space left", "free some disk on the server"),
)

_NOT_ALLOWED = "42501"  # insufficient_privilege
# The server is there but cannot serve now: it restarts, recovers, is full, or was demoted.
_PASSING_CODES = ("08", "53", "57P", "58", "25006", "40")


def connect(url: str) -> Connection:
    """Open a connection in autocommit mode; each statement is its own transaction.

    Raises:
        StorageUnavailable: the server cannot be reached or refuses us.
    """
    seconds = float(os.environ.get("PGCONNECT_TIMEOUT", "10"))
    try:
        connection: Connection = psycopg2.connect(
            url,
            connect_timeout=int(seconds),
            application_name="orch",
            **(_KEEPALIVES | _password_of_file(url)),
        )
    except psycopg2.Error as error:
        raise StorageUnavailable(explain(error, url)) from None
    connection.autocommit = True
    return connection


def _password_of_file(url: str) -> dict[str, str]:
    """The password in the file that ``ORCH_PASSWORD_FILE`` names, as engines mount secrets."""
    path = os.environ.get("ORCH_PASSWORD_FILE")
    if not path or "password" in extensions.parse_dsn(url):
        return {}
    try:
        return {"password": Path(path).read_text(encoding="utf-8").rstrip("\r\n")}
    except OSError as error:
        raise StorageError(f"ORCH_PASSWORD_FILE {path}: {error.strerror}") from None


def answer_within(seconds: float) -> None:
    """Set how long this process waits for the answer to a statement."""
    global _answer_seconds
    _answer_seconds = seconds


def storage_error(error: psycopg2.Error, url: str) -> StorageError:
    """The error as ours: :class:`StorageUnavailable` when asking again later may help."""
    code = error.pgcode or ""
    if code == _NOT_ALLOWED:
        return StorageRefused(explain(error, url))
    lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    passing = code.startswith(_PASSING_CODES) if code else lost
    return (StorageUnavailable if passing else StorageError)(explain(error, url))


def explain(error: psycopg2.Error, url: str) -> str:
    """Why the storage does not work, and the mend, in one line and without a password."""
    text = " ".join(str(error).split()) or type(error).__name__
    mend = next((mend for sign, mend in _MENDS if sign in text), "check --storage and ORCH_STORAGE")
    # libpq asks what our mend asks; once is enough.
    text = re.sub(r" Is the server running[^?]*\?", "", text)
    trouble = "refused by the storage" if error.pgcode == _NOT_ALLOWED else "no storage at"
    return f"{trouble} {mask(url)}: {hide(text, url)}; {mend}"


def _wait(connection: Connection) -> None:
    """Wait for the server as libpq would, but not for ever."""
    deadline = time.monotonic() + _answer_seconds
    while (state := connection.poll()) != extensions.POLL_OK:
        left = max(0.0, deadline - time.monotonic())
        reading = [connection] if state == extensions.POLL_READ else []
        writing = [connection] if state == extensions.POLL_WRITE else []
        if not any(select.select(reading, writing, [], left)):
            raise psycopg2.OperationalError(f"timeout expired: no answer in {_answer_seconds:g} s")


# For every connection of the process, Optuna's own too.
extensions.set_wait_callback(_wait)
