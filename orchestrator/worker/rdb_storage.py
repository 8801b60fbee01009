"""Optuna's own storage for a worker (``storage.driver = "rdb"``), with failures that are ours.

An objective may use SQLAlchemy, psycopg2 and Optuna for itself, and what it raises is its own
failure. So what our storage raises is told apart where it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import psycopg2
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages._cached_storage import _CachedStorage
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import StorageUnavailable
from orchestrator.storage.optuna_storage import make_rdb_storage
from orchestrator.worker.leaving import LeaseLost


class WorkersRdbStorage(_CachedStorage):
    """Raises ``StorageUnavailable`` and ``LeaseLost`` in place of what libraries raise."""


def open_rdb_storage(url: str) -> BaseStorage:
    """Open the storage at a URL, with finished trials cached."""
    return WorkersRdbStorage(make_rdb_storage(url))


def _with_our_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except UpdateFinishedTrialError:
            raise LeaseLost from None  # a worker writes to its own trial alone
        except (StorageInternalError, SQLAlchemyError, psycopg2.Error) as error:
            raise StorageUnavailable(" ".join(str(error).split())) from error

    return call


for _name in BaseStorage.__dict__:
    if not _name.startswith("_"):
        setattr(WorkersRdbStorage, _name, _with_our_errors(getattr(_CachedStorage, _name)))
