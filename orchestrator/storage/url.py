"""Storage URLs: which are taken, how they are shown."""

from __future__ import annotations

import re

from orchestrator.errors import StorageError

_SCHEME = re.compile(r"^(?P<name>[A-Za-z][A-Za-z0-9]*)(?:\+(?P<driver>\w+))?://(?P<rest>.*)$", re.S)
_NO_SHARED_LOCKS = {
    "sqlite": "SQLite has no row locks that machines could share",
    "mysql": "MySQL is not supported; the claim is a PostgreSQL transaction",
    "redis": "Redis has no transactions that the claim could use",
}


def normalise(url: str) -> str:
    """The URL as libpq takes it: ``postgresql://…``, without SQLAlchemy's driver name.

    Raises:
        StorageError: it is no PostgreSQL URL; the message says what to write.
    """
    match = _SCHEME.match(url.strip())
    if match is None:
        raise StorageError(
            f"'{mask(url)}' is no storage URL; write postgresql://USER@HOST:PORT/DATABASE"
        )
    name = match["name"].lower()
    if name not in ("postgresql", "postgres"):
        reason = _NO_SHARED_LOCKS.get(name, f"'{name}' is no PostgreSQL URL")
        raise StorageError(f"{reason}; write postgresql://USER@HOST:PORT/DATABASE")
    return f"postgresql://{match['rest']}"


def mask(url: str) -> str:
    """The URL with every password in it replaced by ``***``."""
    masked = re.sub(r"(://[^:/?#@\s]*):[^/?#\s]*@", r"\1:***@", url)
    return re.sub(r"((?:^|[?&\s])(?:ssl)?password=)('[^']*'|[^&\s]*)", r"\1***", masked)
