"""The schema: making it, checking it, upgrading it, and opening a database that has it.

``sql/migrations/`` holds tables, columns, indexes and data. ``NNNN_name.sql`` are run once each, in
the order of their numbers; a database of a version before them comes to the first one by
``6_to_7.sql`` and so on. Then ``sql/functions/`` is run again as a whole, and last of all each
migration's ``name.after.sql``: what needs the new functions, and what takes away something that a
call of the old ones, begun before, may still have used. All of it runs beside busy workers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from importlib import resources
from typing import TypeVar

import psycopg2

from orchestrator.base.files import home
from orchestrator.errors import NoTables, StorageError, StorageRefused
from orchestrator.storage.database import Database, script, statements
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.url import mask, normalise

OLDEST_SERVER = 13
OPTUNA_REVISION = "v3.2.0.a"  # the head of Optuna 5's migrations
ORCH_VERSION = 11
_OLDEST_VERSION = 6  # whose databases can be upgraded
# In this order: SQL functions are checked as they are made.
_FUNCTIONS = (
    "trials",
    "studies",
    "workers",
    "configurations",
    "eligibility",
    "changes",
    "writes",
    "claims",
    "attempts",
    "ends",
    "plans",
    "artifacts",
    "output",
)
# What the steps from the versions before lead to.
_FIRST = ("0001_schema", "0001_schema.after")

# Workers wait behind a migration that waits for a lock: so it waits briefly, and tries again later.
_LOCK_MILLISECONDS, _TRIES, _PAUSE_SECONDS = 400, 60, 0.5
_LOCKED = ("55P03", "40P01")  # lock_not_available, deadlock_detected
_STATEMENT_SECONDS = 3600.0  # one migration of a large database
_CALLS_SECONDS = 10.0

Result = TypeVar("Result")


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
        return upgrade(database, found)
    _make_optuna_tables(database)
    _create(database)
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
    if found < _OLDEST_VERSION:
        raise StorageError(
            f"the schema at {mask(database.url)} is of a very old orch (version {found}); this one "
            f"upgrades from {_OLDEST_VERSION} on, so use another database"
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
                f"there are no tables of orch at {mask(database.url)}; "
                "to create them, run 'orch create' or 'orch db init'"
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


def _create(database: Database) -> None:
    """Make our schema in a database that holds Optuna's alone, all in one transaction."""

    def make() -> None:
        facts = database.row("server_facts")
        assert facts is not None
        if facts["has_orch"]:  # another process was faster
            return
        names = migrations_from(None)
        for name in names:
            if not _is_after(name):
                _run(database, name)
        _make_functions(database)
        database.execute(script("functions/calls.sql"))
        for name in filter(_is_after, names):
            _run(database, name)
        database.rows("set_orch_version", version=ORCH_VERSION)

    _with_locks(database, make)


def upgrade(database: Database, found: int) -> list[str]:
    """Bring a schema of version ``found`` to this one; each migration is a transaction.

    After a failure it is called again; several processes may do so at the same time. The version is
    set last: until then, workers of the version before take trials as before.

    Returns:
        The migrations that it has run.

    Raises:
        StorageError: this role may not do that, or a table stays locked.
    """
    _with_locks(database, lambda: database.rows("create_migration_table"))
    names = migrations_from(None if _FIRST[0] in _applied(database) else found)
    ran = _run_each(database, (name for name in names if not _is_after(name)))
    stale = _with_locks(database, lambda: _replace_functions(database))
    _wait_for_calls(database)
    ran += _run_each(database, filter(_is_after, names))

    def finish() -> None:
        for function in stale:
            database.execute(f"DROP FUNCTION IF EXISTS {function}")
        for name in _FIRST:
            database.rows("note_migration", name=name)
        # Not sooner: a call of a function as it was may still have needed its caller's rights.
        database.execute(script("functions/calls.sql"))
        _renew_rights(database)
        database.rows("set_orch_version", version=ORCH_VERSION)

    _with_locks(database, finish)
    return ran


def migrations_from(version: int | None) -> list[str]:
    """All that a database may need, in order: one of that version from before the numbered
    migrations; None: any other, a new one too."""
    folder = resources.files("orchestrator.storage") / "sql" / "migrations"
    names = sorted(path.name.removesuffix(".sql") for path in folder.iterdir())
    names = [name for name in names if (folder / f"{name}.sql").is_file()]
    numbered = [name for name in names if name[:4].isdigit()]
    if version is None:
        return numbered
    steps = [name for name in names if name not in numbered]
    return [
        *(name for name in steps if int(name.split("_to_")[0]) >= version),
        *(name for name in numbered if name not in _FIRST),
    ]


def _is_after(name: str) -> bool:
    return ".after" in name


def _applied(database: Database) -> set[str]:
    return {row["name"] for row in database.rows("applied_migrations")}


def _run(database: Database, name: str) -> None:
    database.execute(script(f"migrations/{name}.sql"), seconds=_STATEMENT_SECONDS)
    database.rows("note_migration", name=name)


def _run_each(database: Database, names: Iterable[str]) -> list[str]:
    """Run those that nobody has run yet; returns them."""

    def run(name: str) -> bool:
        wanted = name not in _applied(database)
        if wanted:
            _run(database, name)
        return wanted

    return [name for name in names if _with_locks(database, lambda name=name: run(name))]  # type: ignore[misc]


def _make_functions(database: Database) -> None:
    for name in _FUNCTIONS:
        database.execute(script(f"functions/{name}.sql"))


def _replace_functions(database: Database) -> list[str]:
    """Make the functions of this version beside those of the one before.

    Returns:
        Those that neither this version has nor a worker of the version before still calls.
    """
    database.execute(script("kept_functions.sql"))
    _make_functions(database)
    return [row["signature"] for row in database.rows("functions_made_before")]


def _wait_for_calls(database: Database) -> None:
    """Wait until no transaction is left that may be inside a function as it was before.

    Not for ever: one that stays open so long waits for its client, and is in no function.
    """
    deadline = time.monotonic() + _CALLS_SECONDS
    running = left = _transactions(database)
    while running & left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = _transactions(database)


def _transactions(database: Database) -> set[str]:
    return {row["transaction"] for row in database.rows("other_transactions")}


def _renew_rights(database: Database) -> None:
    """Give the roles of ``orch db roles`` their rights on what is new, where we may."""
    row = database.row("has_roles_to_renew")
    if row is not None and row["wanted"]:
        database.execute(script("roles.sql"))
        database.execute(script("functions/calls.sql"))


def _with_locks(database: Database, work: Callable[[], Result]) -> Result:
    """Do all of ``work`` in a transaction that waits briefly for each lock, until it got them all.

    Raises:
        StorageError: a lock stayed taken, or ``work`` failed.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        try:
            with database.transaction():
                # Two upgrades, or first commands, wait for each other, however long it takes.
                database.execute(statements()["lock_setup"], seconds=_STATEMENT_SECONDS)
                database.execute(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
                for row in database.rows("act_as_owner"):
                    database.execute(row["statement"])
                return work()
        except StorageError as error:
            cause = error.__cause__
            if not isinstance(cause, psycopg2.Error) or cause.pgcode not in _LOCKED:
                raise
            locked = " ".join(str(cause).split())
    raise StorageError(
        f"the schema at {mask(database.url)} cannot be changed now ({locked}): another transaction "
        "stays open; end it (pg_stat_activity names it), then run: orch db upgrade"
    )
