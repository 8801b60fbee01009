"""The reporter between a trial and the server: what is waited for, and what is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from fault_site import wait_until
from optuna.trial import TrialState

from orchestrator.storage import worker_storage
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.worker import reporter as reporter_module
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.worker import Worker, WorkerOptions


@pytest.fixture
def carried(
    database: Database, store_study: Callable[..., StoredStudy]
) -> Iterator[tuple[Reporter, int]]:
    """A reporter at work on a claimed trial."""
    study = store_study("quadratic")
    claims = Claims(database, study.study_id, uuid4())
    claims.join("worker")
    reporter = Reporter(database.url, study.study_id, claims.token, beat_seconds=1000.0)
    trial_id = claims.claim().trial_id
    assert trial_id is not None
    with reporter:
        reporter.begin(trial_id)
        yield reporter, trial_id
    reporter.close()


def values(database: Database, trial_id: int) -> dict[int, float]:
    return PostgresStorage(database).get_trial(trial_id).intermediate_values


def test_a_posted_value_arrives_by_itself(
    database: Database, carried: tuple[Reporter, int]
) -> None:
    reporter, trial_id = carried
    reporter.post(1, 0.5)
    wait_until(lambda: values(database, trial_id) == {1: 0.5})


def test_short_trials_do_not_wake_it_one_by_one_and_the_last_value_arrives(
    database: Database, carried: tuple[Reporter, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "_GATHER_SECONDS", 0.1)
    reporter, trial_id = carried
    woken: list[None] = []
    notify_all = reporter._changed.notify_all
    monkeypatch.setattr(reporter._changed, "notify_all", lambda: (woken.append(None), notify_all()))
    for _ in range(60):
        reporter.begin(trial_id)
        reporter.post(1, 0.5)
        reporter.collect()
        time.sleep(0.005)
    assert len(woken) <= 2 and values(database, trial_id) == {}
    reporter.begin(trial_id)
    reporter.post(2, 0.25)
    wait_until(lambda: values(database, trial_id) == {2: 0.25})
    wait_until(lambda: not reporter._watches)  # it rests
    reporter.post(3, 0.125)
    wait_until(lambda: values(database, trial_id) == {2: 0.25, 3: 0.125})


def test_trials_that_leave_nothing_to_send_put_off_no_sign_of_life(
    database: Database, carried: tuple[Reporter, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, trial_id = carried
    monkeypatch.setattr(reporter, "_beat_seconds", 0.5)
    assert reporter.deliver(1, 0.5)  # the next sign of life is due half a second later
    renewed = "SELECT renewed_at FROM orch.lease WHERE trial_id = %(id)s"
    before = database.execute(renewed, {"id": trial_id})
    for _ in range(12):
        reporter.begin(trial_id)
        reporter.post(2, 0.25)
        reporter.collect()
        time.sleep(0.1)
    assert database.execute(renewed, {"id": trial_id}) != before


def test_a_posted_value_goes_with_the_next_that_is_waited_for(
    database: Database, carried: tuple[Reporter, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "_GATHER_SECONDS", 60.0)
    reporter, trial_id = carried
    assert reporter.deliver(1, 1.0)
    reporter.post(2, 0.5)
    time.sleep(0.2)
    assert values(database, trial_id) == {1: 1.0}, "it waits"
    assert reporter.deliver(3, 0.25)
    assert values(database, trial_id) == {1: 1.0, 2: 0.5, 3: 0.25}
    account = reporter.collect()
    assert (account.everything.values, account.late.values) == ({1: 1.0, 2: 0.5, 3: 0.25}, {})


def test_a_posted_value_tells_that_the_lease_is_gone(
    database: Database, carried: tuple[Reporter, int]
) -> None:
    reporter, trial_id = carried
    database.execute("DELETE FROM orch.lease WHERE trial_id = %(id)s", {"id": trial_id})
    assert reporter.held
    reporter.post(1, 0.5)
    wait_until(lambda: not reporter.held)
    assert values(database, trial_id) == {}


def test_what_others_did_comes_with_a_value_when_it_is_wanted_and_only_then(
    database: Database, carried: tuple[Reporter, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_storage, "_FRESH_SECONDS", 1000.0)
    reporter, trial_id = carried
    storage = PostgresStorage(database)
    [study] = database.execute(
        "SELECT study_id FROM trials WHERE trial_id = %(t)s", {"t": trial_id}
    )
    study_id = study["study_id"]
    here = WorkerStorage(database, study_id, reporter)
    here.sync()
    reporter.feed(here)
    for step, changes, known in ((1, [True], 2), (2, [], 2), (3, [True], 4)):
        storage.create_new_trial(study_id)
        assert reporter.deliver(step, 0.5, *changes)
        assert len(here.get_all_trials(study_id)) == known


def test_a_value_behind_one_that_the_server_has_lost_is_not_counted(
    database: Database, carried: tuple[Reporter, int]
) -> None:
    """As when a pooler's connections survive a crash of its server, and nobody notices it."""
    reporter, trial_id = carried
    counted = "SELECT serial FROM orch.lease WHERE trial_id = %(id)s"
    assert reporter.deliver(1, 0.5) and reporter.deliver(2, 0.25)
    assert database.execute(counted, {"id": trial_id}) == [{"serial": 2}]
    database.execute("UPDATE orch.lease SET serial = 1 WHERE trial_id = %(id)s", {"id": trial_id})
    assert reporter.deliver(3, 0.125)
    assert database.execute(counted, {"id": trial_id}) == [{"serial": 1}]
    assert reporter.collect().serial == 3, "so the end sends everything again"


def test_a_value_that_needs_no_other_trial_still_prunes(
    database: Database, store_study: Callable[..., StoredStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hyperband prunes a NaN at a rung whatever others have: the value is posted, and decided on."""
    monkeypatch.setattr(reporter_module, "_GATHER_SECONDS", 60.0)
    pruner = {"name": "hyperband", "max_resource": 9}
    study = store_study("user_objectives:reports_nan", pruner=pruner)
    Worker(database.url, study.name, WorkerOptions(uuid4())).run()
    storage = PostgresStorage(database)
    for trial in storage.get_all_trials(study.study_id):
        assert trial.state == TrialState.PRUNED
        assert trial.last_step in (1, 3, 9), "the first rung of its bracket"
