"""What a worker is made of, part by part: reporter, checkpoints, patience, what is kept on disk."""

from __future__ import annotations

import io
import os
import random
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg2
import pytest
from fault_site import wait_until

from orchestrator.base.backoff import Pause, patiently
from orchestrator.errors import PatienceExceeded, StorageError, StorageUnavailable
from orchestrator.storage.artifacts import open_artifacts
from orchestrator.storage.claims import Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.hosts import hosts_of
from orchestrator.worker.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    UnfinishedTrials,
    load_newest,
)
from orchestrator.worker.process import shown_lines
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.supervisor import Crew, Supervisor


@pytest.fixture
def claimed(place: Any) -> tuple[Claims, int]:
    place.create()
    claims = place.claims()
    trial_id = claims.claim().trial_id
    assert trial_id is not None
    return claims, trial_id


def make_reporter(place: Any, claims: Claims, beat_seconds: float = 1000.0) -> Reporter:
    return Reporter(place.site.url, place.study.study_id, claims.token, beat_seconds)


def test_what_the_database_can_never_take_is_raised_at_the_report(
    place: Any, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    with make_reporter(place, claims) as reporter:
        reporter.begin(trial_id)
        reporter.write_param("x", 0.5, "no JSON of a distribution")
        place.execute("ALTER FUNCTION orch.write RENAME TO write_away")
        try:
            with pytest.raises(StorageError, match="does not exist"):
                reporter.deliver(1, 0.5)
        finally:
            place.execute("ALTER FUNCTION orch.write_away RENAME TO write")
        with pytest.raises(StorageError, match="does not exist"):
            reporter.deliver(2, 0.5)
    reporter.close()


def test_an_idle_reporters_beats_keep_the_lease_and_notice_its_loss(
    place: Any, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    renewed = "SELECT renewed_at FROM orch.lease WHERE study_id = %(study)s"
    [before] = place.execute(renewed)
    with make_reporter(place, claims, beat_seconds=0.05) as reporter:
        reporter.begin(trial_id)
        wait_until(lambda: place.execute(renewed) != [before])
        assert reporter.held and reporter.outage_seconds == 0
        claims.give_back(trial_id)
        wait_until(lambda: not reporter.held)
        assert not reporter.deliver(1, 0.5)
        # Without a trial there is nothing to hold; the next one is held until it is known better.
        reporter.end()
        time.sleep(0.2)
        assert reporter.held
    reporter.close()


def test_a_note_that_has_arrived_is_not_sent_again(place: Any, claimed: tuple[Claims, int]) -> None:
    claims, trial_id = claimed
    with make_reporter(place, claims, beat_seconds=0.02) as reporter:
        reporter.begin(trial_id)
        reporter.write_system_attribute("a", "1")
        assert reporter.deliver(1, 0.5)
        reporter.write_system_attribute("a", "1")
        assert not reporter.undelivered(trial_id)
        reporter.collect()
        reporter.write_system_attribute("a", "2")
        assert reporter.undelivered(trial_id) == Writes(system_attributes={"a": "2"})
        assert not reporter.undelivered(trial_id + 1)
        time.sleep(0.1)  # collected: it goes with the end, not by itself or with a sign of life
        assert reporter.undelivered(trial_id)
        assert claims.finish(trial_id, "COMPLETE", [0.5], {}, reporter.collect())
    reporter.close()
    trial = place.only()
    assert (trial.intermediate_values, trial.system_attrs) == ({1: 0.5}, {"a": 2})


def test_after_an_outage_everything_is_sent_again(place: Any, claimed: tuple[Claims, int]) -> None:
    claims, trial_id = claimed
    with make_reporter(place, claims, beat_seconds=0.2) as reporter:
        reporter.begin(trial_id)
        assert reporter.deliver(1, 0.5) and reporter.deliver(2, 0.25)
        place.site.goes_away()
        assert not reporter.deliver(3, 0.125)
        assert reporter.undelivered(trial_id).values == {1: 0.5, 2: 0.25, 3: 0.125}
        assert reporter.outage_seconds > 0
        place.site.comes_back()
        # As after a crash of the server that lost what it had not waited for.
        place.execute("DELETE FROM trial_intermediate_values")
        place.execute("UPDATE orch.lease SET serial = 0")
        wait_until(lambda: not reporter.undelivered(trial_id))
        assert reporter.outage_seconds == 0
        [row] = place.execute("SELECT serial FROM orch.lease")
        assert row["serial"] == reporter.collect().serial > 0, "all of it counts again"
    reporter.close()
    assert place.only().intermediate_values == {1: 0.5, 2: 0.25, 3: 0.125}


def test_what_is_written_anew_while_it_is_sent_is_sent_again() -> None:
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


def test_two_checkpoints_are_kept_and_the_older_ones_removed(
    place: Any, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    store = open_artifacts("postgresql", place.site.database, 8)
    writer = CheckpointWriter(claims, store, 0, lambda trial: Writes({9: 0.5}))
    with writer:
        for step in (1, 2, 3):
            writer.save(trial_id, Checkpoint(step, {"a": np.array([step])}))
            assert writer.flush(30)
    assert [step for _, step, _ in claims.checkpoints(trial_id)] == [3, 2]
    assert len(place.execute("SELECT * FROM orch.artifact")) == 2
    assert place.only().intermediate_values == {9: 0.5}, "what was undelivered goes with it"
    newest = load_newest(claims, store, trial_id)
    assert newest is not None and newest.step == 3 and newest.arrays["a"] == [3]


def test_a_checkpoint_without_the_lease_leaves_nothing(
    place: Any, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    claims.give_back(trial_id)
    store = open_artifacts("postgresql", place.site.database, 8)
    with CheckpointWriter(claims, store, 0, lambda trial: Writes()) as writer:
        writer.save(trial_id, Checkpoint(1, {}))
        assert writer.flush(30)
    assert place.execute("SELECT * FROM orch.artifact") == []
    assert load_newest(claims, store, trial_id) is None


def test_a_checkpoint_is_due_when_its_time_has_come(claimed: tuple[Claims, int]) -> None:
    claims, _ = claimed
    for least_seconds, due in ((0, True), (1000, False)):
        writer = CheckpointWriter(claims, None, least_seconds, lambda trial: Writes())  # type: ignore[arg-type]
        writer.begin()
        assert writer.due() == due


def test_a_checkpoint_out_of_reach_is_no_damaged_one(
    place: Any, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    claims.save_checkpoint(trial_id, 1, "made", "0", Writes())
    other = Database(place.site.url.replace(f"/{place.site.name}?", "/nowhere?"))
    with pytest.raises(StorageUnavailable):
        load_newest(claims, open_artifacts("postgresql", other, 8), trial_id)


def test_a_model_is_wanted_while_fewer_than_so_many_are_better(
    place: Any, claimed: tuple[Claims, int]
) -> None:
    claims, trial_id = claimed
    assert claims.is_model_wanted(9.0, 1)
    assert not claims.is_model_wanted(9.0, 0)
    assert claims.finish(trial_id, "COMPLETE", [1.0], {})
    store = open_artifacts("postgresql", place.site.database, 8)
    store.write("model", io.BytesIO(b"m"))
    assert claims.keep_model(trial_id, "model", "0", 1) == []
    assert not claims.is_model_wanted(9.0, 1) and claims.is_model_wanted(9.0, 2)
    assert claims.is_model_wanted(0.5, 1), "smaller is better here"


def test_no_wait_of_ours_draws_from_the_random_numbers_of_the_process() -> None:
    answers: list[Any] = [StorageUnavailable("away"), 3]

    def call() -> Any:
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    before = random.getstate()
    assert patiently(call, 60) == 3
    Pause().wait(lambda: True)
    hosts_of("postgresql://a,b/d?load_balance_hosts=random")
    assert random.getstate() == before


def test_patience_waits_for_the_database_and_not_for_a_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [StorageUnavailable("one\nline"), StorageUnavailable("two"), 3]

    def call() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(call, 60) == 3
    assert caplog.text.count("waiting for the database: one line") == 1
    answers = [StorageUnavailable("again")] * 2
    with pytest.raises(PatienceExceeded, match="the storage is out of reach: again"):
        patiently(call, 0)
    with pytest.raises(PatienceExceeded):
        patiently(call, 60, lambda: True)
    answers = [StorageError("never")]
    with pytest.raises(StorageError, match="never"):
        patiently(call, 60)
    answers = [psycopg2.OperationalError("an objective's own")]
    with pytest.raises(psycopg2.OperationalError):
        patiently(call, 60)


def test_what_is_kept_on_disk_is_whole_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    kept, other = UnfinishedTrials("one"), UnfinishedTrials("two")
    assert kept.load(7) is None
    path = kept.save(7, Checkpoint(3, {"a": np.arange(3)}, {"seed": 1}))
    found = kept.load(7)
    assert found is not None and (found.step, found.facts) == (3, {"seed": 1})
    assert other.load(7) is None and kept.load(8) is None
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert kept.load(7) is None
    assert "cannot be used (its checksum is wrong)" in caplog.text
    kept.remove(7)
    kept.remove(7)
    assert not path.exists()


def test_what_nobody_takes_up_is_removed_after_a_month(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    kept, logs = UnfinishedTrials("one"), tmp_path / "logs"
    paths = [kept.save(number, Checkpoint(1, {}, {})) for number in (1, 2)]
    logs.mkdir()
    paths += [logs / "s-3.log", logs / "s-4.log"]
    for path, days in zip(paths, [31, 29, 8, 6], strict=True):
        path.touch()
        os.utime(path, (0, time.time() - days * 24 * 3600))
    with Supervisor(database, Crew("s", 0, processes=0, logs=logs)).running():
        assert [path.exists() for path in paths] == [False, True, False, True]


def test_signing_off_is_seen(place: Any, claimed: tuple[Claims, int]) -> None:
    claims, trial_id = claimed
    assert claims.held() == [trial_id] and claims.renew() == {trial_id}
    [row] = place.execute("SELECT name, left_at FROM orch.worker WHERE study_id = %(study)s")
    assert row == {"name": "another", "left_at": None}
    claims.leave()
    [row] = place.execute("SELECT left_at FROM orch.worker WHERE study_id = %(study)s")
    assert row["left_at"] is not None
    assert Claims(place.site.database, place.study.study_id, uuid4()).held() == []


def test_tensorflows_usual_news_is_not_shown_and_its_errors_are(
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
