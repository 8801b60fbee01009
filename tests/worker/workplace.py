"""A study in a database that a test can take away, and workers in the test's own process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import optuna
from fault_site import wait_until

from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database, Row
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy
from orchestrator.worker.trial import Trial
from orchestrator.worker.worker import Worker, WorkerOptions

# What the fixtures of these names are.
StoreStudy = Callable[..., StoredStudy]
SetAfterStep = Callable[[Callable[[Trial, int], object]], None]
SetFunction = Callable[[Callable[[Trial], object]], None]


class OwnDatabase:
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


class Workplace:
    """One study in the tests' own database, and what became of its trials."""

    def __init__(self, own: OwnDatabase, name: str) -> None:
        self.own, self.name = own, name
        self.study: StoredStudy

    @property
    def database(self) -> Database:
        return self.own.database

    @property
    def url(self) -> str:
        return self.own.url

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
        self.study = create(self.database, StudySpec.parse(document))

    def worker(self, token: UUID | None = None, **options: Any) -> Worker:
        return Worker(self.url, self.name, WorkerOptions(token or uuid4(), **options))

    def claims(self) -> Claims:
        claims = Claims(self.database, self.study.study_id, uuid4())
        claims.join("another")
        return claims

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return PostgresStorage(self.database).get_all_trials(self.study.study_id)

    def only(self) -> optuna.trial.FrozenTrial:
        [trial] = self.trials()
        return trial

    def execute(self, sql: str, **parameters: Any) -> list[Row]:
        return self.database.execute(sql, {**parameters, "study": self.study.study_id})

    def wait_until_saved(self, step: int) -> None:
        """Wait until the checkpoint of a step is recorded."""
        saved = (
            "SELECT 1 FROM orch.checkpoint JOIN trials USING (trial_id) "
            "WHERE study_id = %(study)s AND step = %(step)s"
        )
        wait_until(lambda: bool(self.execute(saved, step=step)))

    def wait_until_arrived(self, trial: Trial) -> None:
        """Wait until the database has what a running trial has drawn and reported."""

        def arrived() -> bool:
            stored = self.trials()[trial.number]
            return (stored.params, stored.intermediate_values) == (trial.params, trial.values)

        wait_until(arrived)

    def lose_the_lease(self) -> None:
        """As when the worker fell silent: another one's claim takes its trial back."""
        # A server that has just started would take nothing back: the rule's own part is called. The
        # study, its leases, its trials: in another order it could wait for a value for ever.
        with self.database.transaction():
            self.execute("SELECT orch.lock_study(%(study)s)")
            self.execute("SELECT 1 FROM orch.lease WHERE study_id = %(study)s FOR UPDATE")
            self.execute(
                "SELECT orch.end_attempt(trial_id, 'lost', 'lost') FROM trials "
                "WHERE study_id = %(study)s AND state = 'RUNNING'"
            )


def take(claims: Claims) -> int:
    """Claim a trial; its id."""
    claim = claims.claim()
    assert claim.outcome == "trial" and claim.trial_id is not None, claim
    return claim.trial_id
