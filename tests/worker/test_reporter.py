"""The reporter between a trial and the server: what is waited for, and what is not."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from fault_site import wait_until
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from orchestrator.storage import worker_storage
from orchestrator.storage.artifacts import open_artifacts
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database, Row
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.worker import Worker, WorkerOptions


@dataclass
class Reported:
    """A reporter on a claimed trial, and the database as others see it."""

    reporter: Reporter
    storage: WorkerStorage
    trial_id: int
    study_id: int
    connection: Database  # the worker's
    database: Database

    def values(self) -> dict[int, float]:
        return PostgresStorage(self.database).get_trial(self.trial_id).intermediate_values

    def lease(self) -> Row:
        query = "SELECT * FROM orch.lease WHERE trial_id = %(id)s"
        [row] = self.database.execute(query, {"id": self.trial_id})
        return row


MakeReported = Callable[..., Reported]


@pytest.fixture
def make_reported(
    database: Database, store_study: Callable[..., StoredStudy]
) -> Iterator[MakeReported]:
    connections: list[Database] = []

    def make(heartbeat_seconds: float = 1000.0) -> Reported:
        study = store_study("quadratic")
        connections.append(Database(database.url))
        claims = Claims(connections[-1], study.study_id, uuid4())
        claims.join("worker")
        storage = WorkerStorage(connections[-1], study.study_id)
        claim = claims.claim(storage.position)
        assert claim.trial_id is not None and claim.changes is not None
        storage.take(claim.changes)
        reporter = Reporter(claims, storage, heartbeat_seconds)
        storage.start_trial(claim.trial_id, reporter)
        reporter.start_trial(claim.trial_id)
        return Reported(
            reporter, storage, claim.trial_id, study.study_id, connections[-1], database
        )

    yield make
    for each in connections:
        each.close()


@pytest.fixture
def reported(make_reported: MakeReported) -> Iterator[Reported]:
    """A reporter at work, whose next heartbeat is far away."""
    made = make_reported()
    with made.reporter:
        yield made


def test_a_posted_value_is_sent_without_further_calls(reported: Reported) -> None:
    reported.reporter.post(1, 0.5)
    wait_until(lambda: reported.values() == {1: 0.5})
    reported.reporter.post(2, 0.25)
    wait_until(lambda: reported.values() == {1: 0.5, 2: 0.25})


def test_a_parameter_is_sent_before_any_value(reported: Reported) -> None:
    """So a retry has the same parameters, though its first attempt died before its first report."""
    reported.storage.set_trial_param(reported.trial_id, "x", 0.5, FloatDistribution(0.0, 1.0))
    storage = PostgresStorage(reported.database)
    wait_until(lambda: storage.get_trial(reported.trial_id).params == {"x": 0.5})


def test_trials_with_nothing_to_send_do_not_delay_heartbeats(
    make_reported: MakeReported,
) -> None:
    reported = make_reported(heartbeat_seconds=0.5)
    before, reporter = reported.lease()["renewed_at"], reported.reporter
    with reporter:
        deadline = time.monotonic() + 30
        while reported.lease()["renewed_at"] == before:
            assert time.monotonic() < deadline, "no heartbeat"
            reporter.start_trial(reported.trial_id)
            reporter.close_trial()
            reporter.post(2, 0.25)


def test_a_closed_trials_pending_writes_go_with_its_end(
    reported: Reported,
) -> None:
    reporter = reported.reporter
    assert reporter.send(1, 1.0)
    reporter.close_trial()
    reporter.post(2, 0.5)
    account = reporter.close_trial()
    assert account.everything.values == {1: 1.0, 2: 0.5} and account.late.values == {2: 0.5}
    assert reported.values() == {1: 1.0}


def test_a_posted_value_reveals_a_lost_lease(reported: Reported) -> None:
    query = "DELETE FROM orch.lease WHERE trial_id = %(id)s"
    reported.database.execute(query, {"id": reported.trial_id})
    assert not reported.reporter.lost
    reported.reporter.post(1, 0.5)
    wait_until(lambda: reported.reporter.lost)
    assert reported.values() == {}


def test_others_changes_come_only_with_a_value_that_needs_a_pruning_decision(
    reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_storage, "_FRESH_SECONDS", 1000.0)
    others, here = PostgresStorage(reported.database), reported.storage
    here.sync()

    def known() -> int:
        return len(here.get_all_trials(reported.study_id))

    others.create_new_trial(reported.study_id)
    assert reported.reporter.send(1, 0.5) and known() == 2
    others.create_new_trial(reported.study_id)
    reported.reporter.post(2, 0.5)
    wait_until(lambda: 2 in reported.values())
    assert known() == 2
    others.create_new_trial(reported.study_id)
    assert reported.reporter.send(3, 0.5) and known() == 4


def test_a_value_after_one_lost_by_the_server_is_not_acknowledged(reported: Reported) -> None:
    """As when a pooler's connections survive a crash of its server, and nobody notices it."""
    reporter = reported.reporter
    assert reporter.send(1, 0.5) and reporter.send(2, 0.25)
    assert reported.lease()["serial"] == 2
    lose = "UPDATE orch.lease SET serial = 1 WHERE trial_id = %(id)s"
    reported.database.execute(lose, {"id": reported.trial_id})
    assert reporter.send(3, 0.125)
    assert reported.lease()["serial"] == 1
    assert reporter.close_trial().serial == 3, "so the end sends everything again"


def test_everything_is_sent_again_after_an_outage_seen_by_another_thread(
    reported: Reported,
) -> None:
    """They share a connection: whoever finds it broken opens the next, to a server that crashed."""
    reporter = reported.reporter
    assert reporter.send(1, 0.5) and reporter.send(2, 0.25)
    reported.connection.close()
    reported.database.execute(
        "DELETE FROM trial_intermediate_values WHERE trial_id = %(id)s", {"id": reported.trial_id}
    )
    reported.connection.row("server_clock")
    reporter.post(3, 0.125)
    wait_until(lambda: reported.values() == {1: 0.5, 2: 0.25, 3: 0.125})


def test_heartbeats_continue_while_a_large_artifact_is_stored(make_reported: MakeReported) -> None:
    """On the worker's one connection, from chunk to chunk."""
    reported = make_reported(heartbeat_seconds=0.05)
    store = open_artifacts("postgresql", reported.connection, limit_mb=200)
    content = io.BytesIO(bytes(150_000_000))
    storing = threading.Thread(target=store.write, args=("large", content))
    seen = set()
    with reported.reporter:
        storing.start()
        while storing.is_alive():
            seen.add(reported.lease()["renewed_at"])
            storing.join(0.02)
    store.remove("large")
    assert len(seen) > 3


def test_a_heartbeat_without_a_trial_leaves_no_open_connection(
    make_reported: MakeReported,
) -> None:
    reported = make_reported(heartbeat_seconds=0.1)
    reported.reporter.finish_trial()
    with reported.reporter:
        # Each beat opens a connection, and closes it.
        wait_until(lambda: reported.connection.connections > 2)


def test_a_decision_that_needs_no_other_trial_still_prunes(
    database: Database, store_study: Callable[..., StoredStudy]
) -> None:
    """Hyperband prunes a NaN at a rung whatever others have: the value is posted, and decided on."""
    pruner = {"name": "hyperband", "max_resource": 9}
    study = store_study("user_objectives:reports_nan", pruner=pruner)
    Worker(database.url, study.name, WorkerOptions(uuid4())).run()
    storage = PostgresStorage(database)
    for trial in storage.get_all_trials(study.study_id):
        assert trial.state == TrialState.PRUNED
        assert trial.last_step in (1, 3, 9), "the first rung of its bracket"
