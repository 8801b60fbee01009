"""Least-privilege roles on a server: owner, worker and reader, each with a password of its own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from psycopg2.extensions import encrypt_password, parse_dsn

from orchestrator.base.files import write_whole
from orchestrator.errors import UsageError
from orchestrator.storage.connection import connect
from orchestrator.storage.database import Database, script

OWNER, WORKER, READER = "orch_owner", "orch_worker", "orch_reader"
ROLES = (OWNER, WORKER, READER)


def make_roles(database: Database, passfile: Path, renew: bool = False) -> list[str]:
    """Make the three roles, give the owner everything that is orch's, and set the rights.

    A role that is new gets a password. It goes to ``passfile`` in libpq's form, for ``PGPASSFILE``
    or ``~/.pgpass``; the server is sent its SCRAM verifier only, so that no log has it.

    Args:
        database: opened as an administrator, with the schema in place.
        passfile: where the passwords are kept; made with mode 600, or added to.
        renew: give all three new passwords.

    Returns:
        The roles that got a password.

    Raises:
        StorageError: this user may not do that.
        UsageError: the file cannot be written.
    """
    with database.transaction():
        found = {row["rolname"] for row in database.execute("SELECT rolname FROM pg_roles")}
        database.execute(script("roles.sql"))
        database.execute(script("functions/calls.sql"))
        changed = [role for role in ROLES if renew or role not in found]
        passwords = {role: secrets.token_urlsafe(24) for role in changed}
        for role, password in passwords.items():
            set_password(database, role, password)
        if passwords:
            write_passwords(passfile, database.url, passwords)
    return changed


def set_password(database: Database, role: str, password: str) -> None:
    """Set a role's password; neither the statement nor the server's log has it in the clear."""
    connection = connect(database.url)
    try:
        verifier = encrypt_password(password, role, connection, "scram-sha-256")
    finally:
        connection.close()
    database.execute(f"ALTER ROLE {role} PASSWORD %(verifier)s", {"verifier": verifier})


def write_passwords(passfile: Path, url: str, passwords: Mapping[str, str]) -> None:
    """Put the passwords of a server's roles into a file of libpq's form, in place of older ones.

    Raises:
        UsageError: the file cannot be written.
    """
    fresh = {_head(url, role): password for role, password in passwords.items()}
    try:
        passfile.parent.mkdir(parents=True, exist_ok=True)
        lines = passfile.read_text().splitlines() if passfile.exists() else []
        kept = [line for line in lines if line.rpartition(":")[0] not in fresh]
        added = [f"{head}:{password}" for head, password in fresh.items()]
        write_whole(passfile, ("\n".join([*kept, *added]) + "\n").encode(), private=True)
    except OSError as error:
        raise UsageError(f"cannot write the passwords to {passfile}: {error.strerror}") from None


def read_password(passfile: Path, url: str, role: str) -> str | None:
    """The role's password as :func:`write_passwords` wrote it; None: it is not there."""
    lines = passfile.read_text().splitlines() if passfile.exists() else []
    heads = (line.rpartition(":") for line in lines)
    return next((password for head, _, password in heads if head == _head(url, role)), None)


def move_passwords(passfile: Path, source: str, url: str) -> None:
    """Name the passwords of a server by its new address, where they stand there by its old one."""
    found = {role: read_password(passfile, source, role) for role in ROLES}
    moved = {
        role: password
        for role, password in found.items()
        if password is not None and read_password(passfile, url, role) is None
    }
    if moved:
        write_passwords(passfile, url, moved)


def _head(url: str, role: str) -> str:
    server = parse_dsn(url)
    host = server.get("host", "localhost").replace("\\", "\\\\").replace(":", "\\:")
    return f"{host}:{server.get('port', '5432')}:*:{role}"
