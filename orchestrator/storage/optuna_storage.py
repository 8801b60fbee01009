"""Optuna's storage on our connections."""

from __future__ import annotations

import logging

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage

from orchestrator.storage.connect import connect


def make_rdb_storage(url: str, create: bool = False) -> RDBStorage:
    """Optuna's RDBStorage, which connects as we do.

    Args:
        url: the database, as :func:`orchestrator.storage.url.normalise` writes it.
        create: make Optuna's tables and check their version; otherwise both are known to be right.
    """

    def open_connection() -> object:
        connection = connect(url)
        connection.autocommit = False  # SQLAlchemy commits by itself
        return connection

    return RDBStorage(
        "postgresql+psycopg2://",
        engine_kwargs={"creator": open_connection, "pool_size": 2, "max_overflow": 4},
        skip_compatibility_check=not create,
        skip_table_creation=not create,
    )


def open_optuna_storage(url: str) -> BaseStorage:
    """The storage that workers, reports and the dashboard share, with finished trials cached."""
    optuna.logging.set_verbosity(logging.WARNING)
    return _CachedStorage(make_rdb_storage(url))
