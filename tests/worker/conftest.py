"""A database that goes away and comes back, and workers in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hooked
import pytest
from worker.workplace import OwnDatabase, SetAfterStep, SetFunction, StoreStudy, Workplace

from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.connection import answer_seconds, answer_within
from orchestrator.storage.database import Database
from orchestrator.storage.schema import prepare
from orchestrator.storage.studies import StoredStudy, delete


@pytest.fixture(scope="module")
def own_database(url: str) -> Iterator[OwnDatabase]:
    own = OwnDatabase(url)
    own.server.execute(f"CREATE DATABASE {own.name}")
    prepare(own.database)
    yield own
    own.database.close()
    own.server.execute(f"DROP DATABASE {own.name} WITH (FORCE)")
    own.server.close()


@pytest.fixture
def store_study(database: Database, name: str) -> Iterator[StoreStudy]:
    """Stores a study on the session's server for as long as the test runs."""
    stored: list[StoredStudy] = []

    def store(objective: str = "quadratic", trials: int = 3, **sections: Any) -> StoredStudy:
        document = {"study": {"name": name, "objective": objective, "trials": trials}, **sections}
        stored.append(create(database, StudySpec.parse(document)))
        return stored[-1]

    yield store
    for study in stored:
        delete(database, study)


@pytest.fixture
def place(
    own_database: OwnDatabase, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workplace]:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    before = answer_seconds()  # each worker sets it for its process
    hooked.Hooked.trained.clear()
    yield Workplace(own_database, name)
    answer_within(before)
    own_database.comes_back()
    for row in own_database.database.execute("SELECT study_id FROM studies"):
        own_database.database.call("delete_study", study=row["study_id"])
    # Of checkpoints that an outage cut off between their bytes and their record.
    own_database.database.execute("DELETE FROM orch.artifact")


@pytest.fixture
def after_step() -> Iterator[SetAfterStep]:
    """Sets what happens after a step's report."""
    yield hooked.acts.set_after_step
    hooked.acts.reset()


@pytest.fixture
def function() -> Iterator[SetFunction]:
    """Sets the plain objective."""
    yield hooked.acts.set_function
    hooked.acts.reset()
