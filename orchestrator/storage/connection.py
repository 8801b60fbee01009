"""Connections: one way to open them, no wait without an end, every failure one line.

Ours are psycopg2's asynchronous ones, driven by :func:`wait`. psycopg2 could bound the waits of all
connections of a process at once, but the process may be a user's, with connections of their own.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import connection as Connection

from orchestrator.errors import StorageError, StorageRefused, StorageUnavailable, Unstorable
from orchestrator.storage.url import addresses, hide, hosts_of, mask

Opened = TypeVar("Opened", bound=Connection)

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

_EVENTS = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}

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
_DATA_CODES = ("22", "54")  # a value that PostgreSQL cannot hold; beyond a limit of its own
_AWAY_CODES = ("08", "57P")  # the connection is lost; the server shuts down, or starts
_PASSING_CODES = ("08", "53", "57P", "58", "25006", "40")


def connect(url: str) -> Connection:
    """Open an asynchronous connection; each statement is its own transaction.

    ``cursor.execute`` sends a statement, and :func:`wait` waits for its answer.

    Raises:
        StorageUnavailable: the server cannot be reached or refuses us.
    """

    def open_one(parameters: dict[str, Any], seconds: float) -> Connection:
        connection: Connection = psycopg2.connect(url, async_=True, **parameters)
        try:
            wait(connection, seconds)
        except BaseException:
            connection.close()
            raise
        return connection

    return reach(url, open_one)


def reach(url: str, open_one: Callable[[dict[str, Any], float], Opened]) -> Opened:
    """Open a connection to the first server of the URL that takes it.

    libpq itself would go from host to host, but an asynchronous connection bounds neither its wait
    for one of them nor the one for a name server.

    Args:
        url: with one host or several.
        open_one: opens one, given libpq's parameters beside the URL, and how long it may take.

    Raises:
        StorageUnavailable: none can be reached, or it refuses us.
    """
    failures: list[str] = []
    try:
        own = {"application_name": "orch", **_KEEPALIVES, **_password_of_file(url)}
        patience, deadline = _connect_seconds(url), time.monotonic() + _answer_seconds
        hosts = hosts_of(url)
        for place, host in enumerate(hosts):
            later = len(hosts) - place - 1
            try:
                return _reach_host(host, own, open_one, patience, deadline, later)
            except psycopg2.OperationalError as error:
                where = ":".join(filter(None, (host.get("host"), host.get("port"))))
                failures.append(f"{where}: {error}" if later or place else str(error))
    except psycopg2.Error as error:
        raise StorageUnavailable(explain(error, url)) from None
    failure = psycopg2.OperationalError(" ".join(failures))
    raise StorageUnavailable(explain(failure, url)) from None


def _reach_host(
    host: dict[str, str],
    own: dict[str, Any],
    open_one: Callable[[dict[str, Any], float], Opened],
    patience: float,
    deadline: float,
    later: int,
) -> Opened:
    """Try the addresses of one host, and leave some time for those that come later."""

    def share(parts: int) -> float:
        return min(patience, max(1.0, (deadline - time.monotonic()) / parts))

    found = addresses(host, share(1 + later))
    for place, address in enumerate(found):
        try:
            return open_one({**own, **address}, share(len(found) - place + later))
        except psycopg2.OperationalError as error:
            # A server that has answered would say the same at its other addresses.
            if place == len(found) - 1 or "FATAL" in str(error):
                raise
    raise AssertionError("a host has an address")


def _connect_seconds(url: str) -> float:
    """How long one address may take to let us in, as libpq is told."""
    given = extensions.parse_dsn(url).get("connect_timeout")
    given = given or os.environ.get("PGCONNECT_TIMEOUT") or "10"
    try:
        seconds = int(given)
    except ValueError:
        raise StorageError(
            f"connect_timeout or PGCONNECT_TIMEOUT is '{given}'; write a whole number of seconds"
        ) from None
    return float(seconds) if seconds > 0 else _answer_seconds  # libpq: 0 waits for ever


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
    """Set how long our connections wait for the answer to a statement."""
    global _answer_seconds
    _answer_seconds = seconds


def answer_seconds() -> float:
    """How long our connections wait for the answer to a statement."""
    return _answer_seconds


def storage_error(error: psycopg2.Error, url: str) -> StorageError:
    """The error as ours: :class:`StorageUnavailable` when asking again later may help."""
    code = error.pgcode or ""
    if code == _NOT_ALLOWED:
        return StorageRefused(explain(error, url))
    lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    passing = code.startswith(_PASSING_CODES) if code else lost
    if passing:
        return StorageUnavailable(explain(error, url))
    words = hide(" ".join(str(error).split()), url)
    if code.startswith(_DATA_CODES):
        return Unstorable(f"the storage cannot hold it: {words}")
    return StorageError(f"the storage at {mask(url)} refused a statement: {words}")


def explain(error: psycopg2.Error, url: str) -> str:
    """Why the storage does not work, and the mend, in one line and without a password."""
    text = " ".join(str(error).split()) or type(error).__name__
    code = error.pgcode or ""
    # A server that answers with a code is there.
    answers = bool(code) and not code.startswith(_AWAY_CODES)
    other = "look into the server's log" if answers else "check --storage and ORCH_STORAGE"
    mend = next((mend for sign, mend in _MENDS if sign in text), other)
    # libpq asks what our mend asks; once is enough.
    text = re.sub(r" Is the server running[^?]*\?", "", text)
    if code == _NOT_ALLOWED:
        trouble = f"refused by the storage {mask(url)}"
    elif answers:
        trouble = f"the storage at {mask(url)} does not serve now"
    else:
        trouble = f"no storage at {mask(url)}"
    return f"{trouble}: {hide(text, url)}; {mend}"


def wait(connection: Connection, seconds: float | None = None) -> None:
    """Wait until an asynchronous connection is open, or until its statement is answered.

    Args:
        connection: whoever is interrupted or fails here for another reason than the statement's
            own must close it: its answer may still come.
        seconds: how long; None: as :func:`answer_within` says.

    Raises:
        psycopg2.Error: the statement failed, the connection is lost, or the time is up.
    """
    limit = _answer_seconds if seconds is None else seconds
    deadline = time.monotonic() + limit
    while (state := connection.poll()) != extensions.POLL_OK:
        # Not select(), which takes no descriptor above 1023; a new one each time, because the
        # socket may change while a connection opens. A signal whose handler returns ends no wait.
        poller = select.poll()
        poller.register(connection.fileno(), _EVENTS[state])
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise timeout_expired(limit)


def timeout_expired(seconds: float) -> psycopg2.OperationalError:
    """What a wait raises when its time is up."""
    return psycopg2.OperationalError(f"timeout expired: no answer in {seconds:g} s")
