"""Optuna's own suite for storages, on ours."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.schema import prepare


@pytest.fixture(scope="module")
def empty_database(url: str) -> Iterator[Database]:
    """A database of its own: the suite counts all studies that there are."""
    server, name = Database(url), f"optuna_suite_{os.getpid()}"
    server.execute(f"CREATE DATABASE {name}")
    database = Database(url.replace("/postgres?", f"/{name}?"))
    prepare(database)
    yield database
    database.close()
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    server.close()


class TestPostgresStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, empty_database: Database) -> PostgresStorage:
        storage = PostgresStorage(empty_database)
        for study in storage.get_all_studies():
            storage.delete_study(study._study_id)
        return storage
