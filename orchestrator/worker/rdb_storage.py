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

from orchestrator.errors import StorageError, StorageUnavailable, Unstorable
from orchestrator.storage.connection import storage_error
from orchestrator.storage.rdb_storage import make_rdb_storage
from orchestrator.storage.storable import check_name
from orchestrator.worker.leaving import LeaseLost

# Whose third argument is a name. psycopg2 refuses a NUL only while it sends.
_NAMED = {"set_trial_param", "set_trial_user_attr", "set_trial_system_attr"}


class WorkersRdbStorage(_CachedStorage):
    """Raises ``StorageUnavailable`` and ``LeaseLost`` in place of what libraries raise."""

    url = ""


def open_rdb_storage(url: str) -> BaseStorage:
    """Open the storage at a URL, with finished trials cached."""
    storage = WorkersRdbStorage(make_rdb_storage(url))
    storage.url = url
    return storage


def _with_our_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    has_name = method.__name__ in _NAMED

    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        if has_name:
            check_name(arguments[2])
        try:
            return method(*arguments, **options)
        except UpdateFinishedTrialError:
            raise LeaseLost from None  # a worker writes to its own trial alone
        except (StorageInternalError, SQLAlchemyError, psycopg2.Error) as error:
            raise _as_ours(error, arguments[0].url) from error

    return call


def _as_ours(error: BaseException, url: str) -> StorageError:
    """What cannot be stored is the trial's own fault; all else, an outage."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, psycopg2.Error):
            found = storage_error(cause, url)
            if isinstance(found, Unstorable):
                return found
        cause = getattr(cause, "orig", None) or cause.__cause__
    return StorageUnavailable(" ".join(str(error).split()))


for _name in BaseStorage.__dict__:
    if not _name.startswith("_"):
        setattr(WorkersRdbStorage, _name, _with_our_errors(getattr(_CachedStorage, _name)))
