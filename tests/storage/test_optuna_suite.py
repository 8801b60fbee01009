"""Optuna's own suite for storages, on ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.setup import prepare


@pytest.fixture(scope="module")
def empty_database(url: str) -> Iterator[Database]:
    """A database of its own: the suite counts all studies that there are."""
    server = Database(url)
    server.execute("CREATE DATABASE optuna_suite")
    database = Database(url.replace("/postgres?", "/optuna_suite?"))
    prepare(database)
    yield database
    database.close()
    server.execute("DROP DATABASE optuna_suite WITH (FORCE)")
    server.close()


class TestPostgresStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, empty_database: Database) -> PostgresStorage:
        storage = PostgresStorage(empty_database)
        for study in storage.get_all_studies():
            storage.delete_study(study._study_id)
        return storage
