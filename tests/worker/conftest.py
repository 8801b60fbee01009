"""A database that goes away and comes back, and workers in the test's own process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import hooked
import optuna
import pytest
from fault_site import wait_until

from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage import connection as connect
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database, Row
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.schema import prepare
from orchestrator.storage.studies import StoredStudy, delete
from orchestrator.worker.worker import Worker, WorkerOptions


class Site:
    """A database of the tests' own on the session's server."""

    def __init__(self, url: str) -> None:
        self.server = Database(url)
        self.name = f"away_{os.getpid()}"
        self.url = url.replace("/postgres?", f"/{self.name}?")
        self.database = Database(self.url)

    def goes_away(self) -> None:
        """Every connection ends, and no new one is let in."""
        self.server.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.server.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = %(name)s",
            {"name": self.name},
        )

    def comes_back(self) -> None:
        self.server.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")
        self.database.close()


@pytest.fixture(scope="module")
def own_database(url: str) -> Iterator[Site]:
    site = Site(url)
    site.server.execute(f"CREATE DATABASE {site.name}")
    prepare(site.database)
    yield site
    site.database.close()
    site.server.execute(f"DROP DATABASE {site.name} WITH (FORCE)")
    site.server.close()


class Workplace:
    """One study on the site, and what became of its trials."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self.study: StoredStudy

    def create(self, objective: str = "hooked:Hooked", trials: int = 1, **sections: Any) -> None:
        worker = {
            "heartbeat_seconds": 0.2, "grace_seconds": 60, "max_retries": 0, "max_failures": 1,
            **sections.pop("worker", {}),
        }  # fmt: skip
        document = {
            "study": {
                "name": self.name, "objective": objective, "trials": trials,
                **sections.pop("study", {}),
            },
            "sampler": {"name": "random"},
            "pruner": {"name": "none"},
            "worker": worker,
            **sections,
        }  # fmt: skip
        self.study = create(self.site.database, StudySpec.parse(document))

    def worker(self, token: UUID | None = None, **options: Any) -> Worker:
        return Worker(self.site.url, self.name, WorkerOptions(token or uuid4(), **options))

    def claims(self) -> Claims:
        claims = Claims(self.site.database, self.study.study_id, uuid4())
        claims.join("another")
        return claims

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return PostgresStorage(self.site.database).get_all_trials(self.study.study_id)

    def only(self) -> optuna.trial.FrozenTrial:
        [trial] = self.trials()
        return trial

    def execute(self, sql: str, **parameters: Any) -> list[Row]:
        return self.site.database.execute(sql, {**parameters, "study": self.study.study_id})

    def wait_until_saved(self, step: int) -> None:
        """Wait until the checkpoint of a step is recorded."""
        saved = (
            "SELECT 1 FROM orch.checkpoint JOIN trials USING (trial_id) "
            "WHERE study_id = %(study)s AND step = %(step)s"
        )
        wait_until(lambda: bool(self.execute(saved, step=step)))

    def wait_until_arrived(self, trial: Any) -> None:
        """Wait until the database has what a running trial has drawn and reported."""

        def arrived() -> bool:
            stored = self.trials()[trial.number]
            return stored.params == trial.params and stored.intermediate_values == trial.values

        wait_until(arrived)

    def lose_the_lease(self) -> None:
        """As when the worker fell silent: another one's claim takes its trial back."""
        # A server that has just started would take nothing back: the rule's own part is called. The
        # study, its leases, its trials: in another order it could wait for a value for ever.
        with self.site.database.transaction():
            self.execute("SELECT orch.lock_study(%(study)s)")
            self.execute("SELECT 1 FROM orch.lease WHERE study_id = %(study)s FOR UPDATE")
            self.execute(
                "SELECT orch.end_attempt(trial_id, 'lost', 'lost') FROM trials "
                "WHERE study_id = %(study)s AND state = 'RUNNING'"
            )


StoreStudy = Callable[..., StoredStudy]


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


AfterStep = Callable[[Callable[[Any, int], None]], None]


@pytest.fixture
def place(
    own_database: Site, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workplace]:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    monkeypatch.setattr(connect, "_answer_seconds", connect._answer_seconds)
    hooked.Hooked.trained.clear()
    yield Workplace(own_database, name)
    own_database.comes_back()
    for row in own_database.database.execute("SELECT study_id FROM studies"):
        own_database.database.call("delete_study", study=row["study_id"])
    # Of checkpoints that an outage cut off between their bytes and their record.
    own_database.database.execute("DELETE FROM orch.artifact")


@pytest.fixture
def after_step(monkeypatch: pytest.MonkeyPatch) -> AfterStep:
    """Sets what happens after a step's report."""
    return lambda act: monkeypatch.setattr(hooked, "after_step", act)


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """Sets the plain objective."""
    return lambda act: monkeypatch.setattr(hooked, "function", act)
