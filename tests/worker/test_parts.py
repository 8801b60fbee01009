"""What a worker is made of, part by part: reporter, checkpoints, patience, what is kept on disk."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg2
import pytest
from fault_site import wait_until
from worker.workplace import Workplace

from orchestrator.base.backoff import Backoff, Stop, retry
from orchestrator.errors import PatienceExceeded, StorageError, StorageUnavailable
from orchestrator.storage.artifacts import open_artifacts
from orchestrator.storage.claims import Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.url import hosts_of
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.worker.checkpoints import Checkpoint, Checkpoints, SavedTrials
from orchestrator.worker.output import shown_lines
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.supervisor import Crew, Supervisor


@pytest.fixture
def claimed(place: Workplace) -> tuple[Claims, int]:
    place.create()
    claims = place.claims()
    trial_id = claims.claim().trial_id
    assert trial_id is not None
    return claims, trial_id


@contextmanager
def reporter_of(
    place: Workplace, claims: Claims, heartbeat_seconds: float = 1000.0
) -> Iterator[Reporter]:
    """A reporter at work, on a connection of its own."""
    database, study_id = Database(place.url), place.study.study_id
    beside = Claims(database, study_id, claims.token)
    with Reporter(beside, WorkerStorage(database, study_id), heartbeat_seconds) as reporter:
        yield reporter
    database.close()


def test_a_value_that_the_database_cannot_store_raises_at_the_report(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    with reporter_of(place, claims) as reporter:
        reporter.start_trial(trial_id)
        reporter.write_param("x", 0.5, "no JSON of a distribution")
        place.execute("ALTER FUNCTION orch.write RENAME TO write_away")
        try:
            with pytest.raises(StorageError, match="does not exist"):
                reporter.send(1, 0.5)
        finally:
            place.execute("ALTER FUNCTION orch.write_away RENAME TO write")
        with pytest.raises(StorageError, match="does not exist"):
            reporter.send(2, 0.5)


def test_an_idle_reporters_heartbeats_keep_the_lease_and_notice_its_loss(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    renewed = "SELECT renewed_at FROM orch.lease WHERE study_id = %(study)s"
    [before] = place.execute(renewed)
    with reporter_of(place, claims, heartbeat_seconds=0.05) as reporter:
        reporter.start_trial(trial_id)
        wait_until(lambda: place.execute(renewed) != [before])
        assert not reporter.lost and reporter.outage_seconds == 0
        claims.release(trial_id)
        wait_until(lambda: reporter.lost)
        assert not reporter.send(1, 0.5)
        # Without a trial there is nothing to hold; the next one is held until it is known better.
        reporter.finish_trial()
        time.sleep(0.2)
        assert not reporter.lost


def test_an_acknowledged_attribute_is_not_sent_again(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    with reporter_of(place, claims, heartbeat_seconds=0.02) as reporter:
        reporter.start_trial(trial_id)
        reporter.write_system_attribute("a", "1")
        assert reporter.send(1, 0.5)
        reporter.write_system_attribute("a", "1")
        assert not reporter.undelivered(trial_id)
        reporter.close_trial()
        reporter.write_system_attribute("a", "2")
        assert reporter.undelivered(trial_id) == Writes(system_attributes={"a": "2"})
        assert not reporter.undelivered(trial_id + 1)
        time.sleep(0.1)  # closed: it goes with the end, not by itself or with a heartbeat
        assert reporter.undelivered(trial_id)
        assert claims.finish(trial_id, "COMPLETE", [0.5], {}, reporter.close_trial())
    trial = place.only()
    assert (trial.intermediate_values, trial.system_attrs) == ({1: 0.5}, {"a": 2})


def test_everything_is_sent_again_after_an_outage(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    with reporter_of(place, claims, heartbeat_seconds=0.2) as reporter:
        reporter.start_trial(trial_id)
        assert reporter.send(1, 0.5) and reporter.send(2, 0.25)
        place.own.goes_away()
        assert not reporter.send(3, 0.125)
        assert reporter.undelivered(trial_id).values == {1: 0.5, 2: 0.25, 3: 0.125}
        assert reporter.outage_seconds > 0
        place.own.comes_back()
        # As after a crash of the server that lost what it had not waited for.
        place.execute("DELETE FROM trial_intermediate_values")
        place.execute("UPDATE orch.lease SET serial = 0")
        wait_until(lambda: not reporter.undelivered(trial_id))
        assert reporter.outage_seconds == 0
        [row] = place.execute("SELECT serial FROM orch.lease")
        assert row["serial"] == reporter.close_trial().serial > 0, "all of it counts again"
    assert place.only().intermediate_values == {1: 0.5, 2: 0.25, 3: 0.125}


def test_an_attribute_overwritten_while_sending_is_sent_again() -> None:
    sent = Writes({1: float("nan")}, {"x": (0.5, "{}")}, {"a": "1"}, {"b": "1"})
    mine = sent.copy()
    mine.user_attributes["a"] = "2"
    mine.remove(sent)
    assert mine == Writes(user_attributes={"a": "2"}) and mine
    mine.remove(Writes(user_attributes={"other": "1"}))
    assert mine
    mine.add(sent)
    assert mine.user_attributes == {"a": "1"} and mine.params and mine.system_attributes
    for each in (Writes({1: 1.0}), Writes(params={"x": (0.5, "{}")})):
        assert each
    assert not Writes()


def checkpoints_of(place: Workplace, claims: Claims, trial_id: int, **options: Any) -> Checkpoints:
    """Beside a reporter that has one value to deliver, and whose thread does not run."""
    reporter = Reporter(claims, WorkerStorage(place.database, place.study.study_id), 1000.0)
    reporter.start_trial(trial_id)
    reporter.post(9, 0.5)
    defaults = {
        "store": open_artifacts("postgresql", place.database, 8),
        "saved": SavedTrials(place.name),
        "least_seconds": 0,
    }
    return Checkpoints(claims, reporter=reporter, **{**defaults, **options})


def test_two_checkpoints_are_kept_and_the_older_ones_removed(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    checkpoints = checkpoints_of(place, claims, trial_id)
    with checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(trial_id, Checkpoint(step, {"a": np.array([step])}))
            assert checkpoints.flush(30)
    assert [step for _, step, _ in claims.checkpoints(trial_id)] == [3, 2]
    assert len(place.execute("SELECT * FROM orch.artifact")) == 2
    assert place.only().intermediate_values == {9: 0.5}, "what was undelivered goes with it"
    newest = checkpoints.load_newest(trial_id)
    assert newest is not None and newest.step == 3 and newest.arrays["a"] == [3]


def test_a_checkpoint_without_a_lease_stores_nothing(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    claims.release(trial_id)
    with checkpoints_of(place, claims, trial_id) as checkpoints:
        checkpoints.save(trial_id, Checkpoint(1, {}))
        assert checkpoints.flush(30)
    assert place.execute("SELECT * FROM orch.artifact") == []
    assert checkpoints.load_newest(trial_id) is None


def test_a_checkpoint_is_due_after_its_interval(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    for least_seconds, due in ((0, True), (1000, False)):
        checkpoints = checkpoints_of(place, *claimed, least_seconds=least_seconds)
        checkpoints.start_trial()
        assert checkpoints.are_due() == due


def test_an_unreachable_checkpoint_is_not_treated_as_damaged(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    claims.save_checkpoint(trial_id, 1, "made", "0", Writes())
    other = Database(place.url.replace(f"/{place.own.name}?", "/nowhere?"))
    store = open_artifacts("postgresql", other, 8)
    with pytest.raises(StorageUnavailable):
        checkpoints_of(place, claims, trial_id, store=store).load_newest(trial_id)


def test_a_model_is_kept_while_fewer_than_keep_models_are_better(
    place: Workplace, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    assert claims.is_model_wanted(9.0, 1)
    assert not claims.is_model_wanted(9.0, 0)
    assert claims.finish(trial_id, "COMPLETE", [1.0], {})
    store = open_artifacts("postgresql", place.database, 8)
    store.write("model", io.BytesIO(b"m"))
    assert claims.keep_model(trial_id, "model", "0", 1) == []
    assert not claims.is_model_wanted(9.0, 1) and claims.is_model_wanted(9.0, 2)
    assert claims.is_model_wanted(0.5, 1), "smaller is better here"


def asked_to_stop() -> Stop:
    stop = Stop()
    stop.asked = True
    return stop


def test_backoff_uses_none_of_the_processs_random_numbers() -> None:
    answers: list[Exception | int] = [StorageUnavailable("away"), 3]

    def call() -> int:
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    before = random.getstate()
    assert retry(call, 60) == 3
    Backoff().wait(asked_to_stop())
    hosts_of("postgresql://a,b/d?load_balance_hosts=random")
    assert random.getstate() == before


def test_backoff_retries_outages_but_not_errors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Exception | int] = [StorageUnavailable("one\nline"), StorageUnavailable("two"), 3]

    def call() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry(call, 60) == 3
    assert caplog.text.count("waiting for the database: one line") == 1
    answers = [StorageUnavailable("again")] * 2
    with pytest.raises(PatienceExceeded, match="the storage is out of reach: again"):
        retry(call, 0)
    with pytest.raises(PatienceExceeded):
        retry(call, 60, asked_to_stop())
    answers = [StorageError("never")]
    with pytest.raises(StorageError, match="never"):
        retry(call, 60)
    answers = [psycopg2.OperationalError("an objective's own")]
    with pytest.raises(psycopg2.OperationalError):
        retry(call, 60)


def test_an_unfinished_trial_is_saved_to_disk_completely_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    kept, other = SavedTrials("one"), SavedTrials("two")
    assert kept.load(7) is None
    path = kept.write(7, Checkpoint(3, {"a": np.arange(3)}, {"seed": 1}))
    found = kept.load(7)
    assert found is not None and (found.step, found.facts) == (3, {"seed": 1})
    assert other.load(7) is None and kept.load(8) is None
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert kept.load(7) is None
    assert "cannot be used (its checksum is wrong)" in caplog.text
    kept.remove(7)
    kept.remove(7)
    assert not path.exists()


def test_unfinished_trials_on_disk_are_removed_after_a_month(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    kept, logs = SavedTrials("one"), tmp_path / "logs"
    paths = [kept.write(number, Checkpoint(1, {}, {})) for number in (1, 2)]
    logs.mkdir()
    paths += [logs / "s-3.log", logs / "s-4.log"]
    for path, days in zip(paths, [31, 29, 8, 6], strict=True):
        path.touch()
        os.utime(path, (0, time.time() - days * 24 * 3600))
    with Supervisor(database, Crew("s", 0, processes=0, logs=logs)).running():
        assert [path.exists() for path in paths] == [False, True, False, True]


def test_a_worker_that_signs_off_is_recorded(place: Workplace, claimed: tuple[Claims, int]) -> None:
    claims, trial_id = claimed
    assert claims.leased() == [trial_id] and claims.renew() == {trial_id}
    [row] = place.execute("SELECT name, left_at FROM orch.worker WHERE study_id = %(study)s")
    assert row == {"name": "another", "left_at": None}
    claims.leave()
    [row] = place.execute("SELECT left_at FROM orch.worker WHERE study_id = %(study)s")
    assert row["left_at"] is not None
    assert Claims(place.database, place.study.study_id, uuid4()).leased() == []


def test_tensorflows_routine_messages_are_hidden_and_its_errors_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    news = (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
        "I0000 00:00:1795.495111    8550 port.cc:153] oneDNN custom operations are on.\n"
        "2026-01-01 00:00:00.495111: I tensorflow/core/util/port.cc:153] oneDNN is on.\n"
        "W0000 00:00:1795.495111    8550 gpu_device.cc:2433] Skipping registering GPU devices.\n"
        "WARNING:tensorflow:5 out of the last 5 calls to <f> triggered tf.function retracing.\n"
    )
    no_gpu = "E0000 00:00:1795.79    8550 cuda_platform.cc:52] failed call to cuInit: INTERNAL\n"
    error = "E0000 00:00:1795.79    8550 allocator.cc:7] out of memory\n"
    own = "[8550] trial 0 COMPLETE 0.9\nI say: hello\n\n"
    assert shown_lines(news + no_gpu + error + own, has_gpu=False) == error + own
    assert shown_lines(news + no_gpu, has_gpu=True) == no_gpu
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert shown_lines(news + no_gpu + own, has_gpu=False) == news + no_gpu + own, (
        "who asks for all"
    )
