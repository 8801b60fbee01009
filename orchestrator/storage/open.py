"""Which storage a command uses, opened and checked."""

from __future__ import annotations

import os

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer, home
from orchestrator.storage.setup import prepare
from orchestrator.storage.url import normalise


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
