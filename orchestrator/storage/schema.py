"""The schema: making it, checking it, and opening a database that has it."""

from __future__ import annotations

import os

from orchestrator.base.files import home
from orchestrator.errors import StorageError, StorageRefused
from orchestrator.storage.database import Database, script
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.url import mask, normalise

OLDEST_SERVER = 13
OPTUNA_REVISION = "v3.2.0.a"  # the head of Optuna 5's migrations
ORCH_VERSION = 7
# In this order: SQL functions are checked as they are made.
_SCHEMA = (
    "schema.sql",
    "functions/of_version_7.sql",
    "functions/trials.sql",
    "functions/studies.sql",
    "functions/workers.sql",
    "functions/eligibility.sql",
    "functions/changes.sql",
    "functions/writes.sql",
    "functions/claims.sql",
    "functions/attempts.sql",
    "functions/ends.sql",
    "functions/plans.sql",
    "functions/artifacts.sql",
    "functions/calls.sql",
    "upgrade.sql",
)


def prepare(database: Database) -> None:
    """Check the server, and make Optuna's tables and ours where they are missing.

    Raises:
        StorageError: the server is too old, or holds a schema that is not ours.
    """
    facts = database.row("server_facts")
    assert facts is not None
    if facts["version"] < OLDEST_SERVER * 10_000:
        raise StorageError(
            f"the server at {mask(database.url)} is PostgreSQL {facts['version'] // 10_000}; "
            f"orch needs {OLDEST_SERVER} or newer"
        )
    if facts["has_optuna"]:
        _check_optuna(database)
    if facts["has_orch"] and facts["has_optuna"] and _is_current(database):
        return
    _create(database)


def _check_optuna(database: Database) -> None:
    row = database.row("optuna_revision")
    revision = row["revision"] if row else "none"
    if revision != OPTUNA_REVISION:
        raise StorageError(
            f"the schema at {mask(database.url)} is of another Optuna version ({revision}, "
            f"this one has {OPTUNA_REVISION}); run 'optuna storage upgrade' there, or use "
            "another database"
        )


def _is_current(database: Database) -> bool:
    """Whether our schema is this version's; an older one can be brought up."""
    row = database.row("orch_version")
    version = row["version"] if row else 0
    if version > ORCH_VERSION:
        raise StorageError(
            f"the schema at {mask(database.url)} is of another orch version ({version}, this one "
            f"has {ORCH_VERSION}); install the orch that made it, or use another database"
        )
    return bool(version == ORCH_VERSION)


def _create(database: Database) -> None:
    # The lock makes two first commands on one server wait for each other.
    with database.transaction():
        database.rows("lock_setup")
        facts = database.row("server_facts")
        assert facts is not None
        if not facts["has_optuna"]:
            _check_rights(database)
            _create_optuna_tables(database.url)
        if not facts["has_orch"] or not _is_current(database):
            # Workers of the older version see the new number at their next claim, and leave.
            for name in _SCHEMA:
                database.execute(script(name))
            database.rows("set_orch_version", version=ORCH_VERSION)


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
    given = option or os.environ.get("ORCH_STORAGE")
    return normalise(given) if given else EmbeddedServer(home()).ensure_running()


def open_database(option: str | None) -> Database:
    """The database of a command, with the schema in place.

    Raises:
        StorageError: it cannot be reached or does not fit.
    """
    database = Database(storage_url(option))
    prepare(database)
    return database
