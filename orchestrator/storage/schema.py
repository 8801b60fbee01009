"""The schema: making it, checking it, and opening a database that has it."""

from __future__ import annotations

import os

from orchestrator.base.files import home
from orchestrator.errors import NoTables, StorageError, StorageRefused
from orchestrator.storage import migrations
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.url import mask, normalise

OLDEST_SERVER = 13
OPTUNA_REVISION = "v3.2.0.a"  # the head of Optuna 5's migrations
ORCH_VERSION = 11


def prepare(database: Database) -> list[str]:
    """Make Optuna's tables and ours where they are missing, and upgrade ours where they are older.

    Returns:
        The migrations that an older schema needed.

    Raises:
        StorageError: the server is too old, or holds a schema that is not ours.
    """
    found = schema_version(database)
    if found == ORCH_VERSION:
        return []
    if found is not None:
        _check_upgradable(database, found)
        return migrations.upgrade(database, found, ORCH_VERSION)
    _make_optuna_tables(database)
    migrations.create(database, ORCH_VERSION)
    return []


def schema_version(database: Database) -> int | None:
    """The version of our schema there; None: there is none, or Optuna's tables are missing.

    Raises:
        StorageError: the server is too old, or its schema is of a later orch or another Optuna.
    """
    facts = database.row("server_facts")
    assert facts is not None
    if facts["version"] < OLDEST_SERVER * 10_000:
        raise StorageError(
            f"the server at {mask(database.url)} is PostgreSQL {facts['version'] // 10_000}; "
            f"orch needs {OLDEST_SERVER} or newer"
        )
    if not facts["has_optuna"]:
        return None
    _check_optuna(database)
    if not facts["has_orch"]:
        return None
    row = database.row("orch_version")
    version = int(row["version"]) if row else 0
    if version > ORCH_VERSION:
        raise StorageError(
            f"the schema at {mask(database.url)} is of another orch version ({version}, this one "
            f"has {ORCH_VERSION}); install the orch that made it, or use another database"
        )
    return version


def _check_optuna(database: Database) -> None:
    row = database.row("optuna_revision")
    revision = row["revision"] if row else "none"
    if revision != OPTUNA_REVISION:
        raise StorageError(
            f"the schema at {mask(database.url)} is of another Optuna version ({revision}, "
            f"this one has {OPTUNA_REVISION}); run 'optuna storage upgrade' there, or use "
            "another database"
        )


def _check_upgradable(database: Database, found: int) -> None:
    if found < migrations.OLDEST_VERSION:
        raise StorageError(
            f"the schema at {mask(database.url)} is of a very old orch (version {found}); this one "
            f"upgrades from {migrations.OLDEST_VERSION} on, so use another database"
        )


def _make_optuna_tables(database: Database) -> None:
    # The lock makes two first commands on one server wait for each other.
    with database.transaction():
        database.rows("lock_setup")
        facts = database.row("server_facts")
        assert facts is not None
        if not facts["has_optuna"]:
            _check_rights(database)
            _create_optuna_tables(database.url)


def _check_rights(database: Database) -> None:
    # Optuna's tables come by a connection of their own: they would stay where ours are refused.
    row = database.row("rights_to_create")
    assert row is not None
    if not (row["in_database"] and row["in_schema"]):
        where = "database" if row["in_schema"] else "schema public"
        raise StorageRefused(
            f"the role {row['role']} may not create tables at {mask(database.url)}: it lacks the "
            f"right CREATE on the {where}; run 'orch db init' as the database's owner"
        )


def _create_optuna_tables(url: str) -> None:
    # Optuna makes its own tables, so that they are exactly what its migrations expect.
    from orchestrator.storage.rdb_storage import make_rdb_storage

    make_rdb_storage(url, create=True).engine.dispose()


def storage_url(option: str | None) -> str:
    """``--storage``, else ``ORCH_STORAGE``, else the embedded server, started on demand.

    Raises:
        StorageError: no such storage.
    """
    given = _given(option)
    return normalise(given) if given else EmbeddedServer(home()).ensure_running()


def _given(option: str | None) -> str | None:
    return option or os.environ.get("ORCH_STORAGE")


def open_database(option: str | None, *, create: bool = True, upgrade: bool = True) -> Database:
    """The database of a command, with the schema in place.

    A shared one is upgraded by ``orch db upgrade`` alone: the workers of the version before leave.

    Args:
        option: ``--storage``.
        create: make the schema in a shared database that has none. The embedded server always
            gets it.
        upgrade: upgrade an older schema on the embedded server.

    Raises:
        StorageError: it cannot be reached or does not fit.
    """
    database = Database(storage_url(option))
    shared = _given(option) is not None
    found = schema_version(database)
    if found is None:
        if shared and not create:
            raise NoTables(
                f"there are no tables of orch at {mask(database.url)}; make them with: orch db init"
            )
        prepare(database)
    elif found < ORCH_VERSION:
        _check_upgradable(database, found)
        if shared or not upgrade:
            raise StorageError(_older(database, found))
        prepare(database)
    return database


def _older(database: Database, found: int) -> str:
    row = database.row("schema_owner")
    assert row is not None
    who = "" if row["is_current"] else f" as its owner, {row['owner']}"
    return (
        f"the schema at {mask(database.url)} is of an older orch (version {found}, this one has "
        f"{ORCH_VERSION}); run{who}: orch db upgrade"
    )
