"""Migrations: a database gets the tables and functions of this version, beside busy workers.

``sql/migrations/`` holds tables, columns, indexes and data. ``NNNN_name.sql`` are run once each, in
the order of their numbers; a database of a version before them comes to the first one by
``6_to_7.sql`` and so on. Then ``sql/functions/`` is run again as a whole, and last of all each
migration's ``name.after.sql``: what needs the new functions, and what takes away something that a
call of the old ones, begun before, may still have used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib import resources
from typing import TypeVar

import psycopg2

from orchestrator.errors import StorageError
from orchestrator.storage.database import Database, script, statements
from orchestrator.storage.url import mask

OLDEST_VERSION = 6  # whose databases can be upgraded
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


def create(database: Database, version: int) -> None:
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
        database.rows("set_orch_version", version=version)

    _with_locks(database, make)


def upgrade(database: Database, found: int, version: int) -> list[str]:
    """Bring a schema of version ``found`` to ``version``; each migration is a transaction.

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
        database.rows("set_orch_version", version=version)

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
        StorageError: one of them was not to be had, or ``work`` failed.
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
