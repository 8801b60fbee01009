"""Optuna's storage on our connections."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from orchestrator.base.optuna_internals import CachedStorage
from orchestrator.storage.watchdog import connect_watched

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
