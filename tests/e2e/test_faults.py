"""Workers, processes and the database fail; nothing is lost and nothing runs twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fault_site import OwnServer, ended, wait_until

from orchestrator.base.backoff import retry
from orchestrator.storage.database import Database


def test_a_lost_machines_trial_resumes_elsewhere_from_its_last_checkpoint(site: OwnServer) -> None:
    site.create(trials=2)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 6)
    site.kill_machine(shell)
    assert ended(site.start("worker", "s")).count("goes on after step") == 1
    report = site.assert_whole(2)
    assert report["retries"] == 1
    retry = next(trial for trial in report["trials"] if trial["retry_of"] is not None)
    first = report["trials"][retry["retry_of"]]
    assert retry["params"] == first["params"] and "no sign of life" in first["reason"]
    twice = [step for step, count in site.trained().items() if count > 1]
    assert len(twice) <= 1, "at most one epoch is trained twice"


def test_a_clean_stop_repeats_no_step_and_counts_no_failed_attempt(site: OwnServer) -> None:
    site.create(trials=2)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 4)
    shell.send_signal(signal.SIGTERM)
    errors = ended(shell)
    assert shell.returncode == 130 and "given back" in errors
    states = site.report()["states"]
    assert states["waiting"] == 1 and states["running"] == 0
    ended(site.start("worker", "s"))
    assert site.assert_whole(2)["retries"] == 0
    assert set(site.trained().values()) == {1}


def test_a_second_signal_stops_at_once_and_still_releases_the_trial(site: OwnServer) -> None:
    site.create(trials=1, objective__sleep=30)
    shell = site.start("worker", "s")
    wait_until(
        lambda: "running" in site.ok("show", "s") and site.report()["states"]["running"] == 1
    )
    started = time.monotonic()
    shell.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    shell.send_signal(signal.SIGTERM)
    ended(shell)
    assert time.monotonic() - started < 15, "not after the epoch of 30 s"
    assert site.report()["states"]["waiting"] == 1


def test_training_continues_through_a_database_restart(site: OwnServer) -> None:
    site.create(trials=2, objective__steps=50, worker__grace_seconds=3.0)
    shell = site.start("worker", "s", "--processes", "2")
    wait_until(lambda: sum(site.trained().values()) >= 4)
    site.server.stop()
    before = sum(site.trained().values())
    time.sleep(4)  # longer than the grace period
    assert sum(site.trained().values()) > before + 10, "nobody waits for the database"
    site.server.ensure_running()
    errors = ended(shell)
    assert shell.returncode == 0, errors
    assert site.assert_whole(2, steps=50)["retries"] == 0
    assert set(site.trained().values()) == {1}


def test_training_continues_through_a_database_crash(site: OwnServer) -> None:
    site.create(trials=4, worker__grace_seconds=4.0)
    shell = site.start("worker", "s", "--processes", "2")
    wait_until(lambda: sum(site.trained().values()) >= 4)
    pid = site.server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    site.server.ensure_running()
    errors = ended(shell)
    assert shell.returncode == 0, errors
    assert site.assert_whole(4)["retries"] == 0


def test_repeatedly_killed_connections_lose_nothing(site: OwnServer) -> None:
    site.create(trials=4, worker__grace_seconds=4.0)
    shell = site.start("worker", "s", "--processes", "2")
    wait_until(lambda: sum(site.trained().values()) >= 2)
    database = Database(site.server.ensure_running())
    for _ in range(8):
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'orch' AND pid <> pg_backend_pid()"
        )
        time.sleep(0.25)
    errors = ended(shell)
    assert shell.returncode == 0, errors
    assert site.assert_whole(4)["retries"] == 0
    database.close()


def test_a_server_that_rejects_connections_is_waited_for(site: OwnServer) -> None:
    site.create(trials=2)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 2)
    database = Database(site.server.ensure_running())
    database.execute("ALTER SYSTEM SET superuser_reserved_connections = 0")
    database.execute("ALTER DATABASE postgres CONNECTION LIMIT 0")
    database.execute("CREATE ROLE plain LOGIN")
    database.execute("ALTER ROLE postgres CONNECTION LIMIT 0")
    hogs = []
    try:
        while True:  # until the server says "too many clients"
            hogs.append(Database(database.url))
            hogs[-1].execute("SELECT 1")
    except Exception as error:
        assert "too many clients" in str(error) or "reserved" in str(error)
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'orch' AND query LIKE '%%orch.%%' AND pid <> pg_backend_pid()"
    )
    time.sleep(2)
    for hog in hogs:
        hog.close()
    errors = ended(shell)
    assert shell.returncode == 0, errors
    site.assert_whole(2)


def test_after_storage_patience_the_trial_waits_on_disk_for_a_later_worker(site: OwnServer) -> None:
    site.create(trials=1, objective__steps=40, worker__storage_patience="2s")
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 3)
    site.server.stop()
    errors = ended(shell)
    assert shell.returncode == 3
    assert "longer than worker.storage_patience" in errors and "Traceback" not in errors
    assert list((site.home / "unfinished").rglob("*.npz"))
    steps_before = sum(site.trained().values())
    assert steps_before > 10, "it trained on without the database"
    site.server.ensure_running()
    errors = ended(site.start("worker", "s"))
    assert "goes on after step" in errors
    site.assert_whole(1, steps=40)
    assert set(site.trained().values()) == {1}, "nothing was trained twice"
    assert not list((site.home / "unfinished").rglob("*.npz"))


def test_a_finished_trial_that_could_not_be_delivered_is_delivered_later(site: OwnServer) -> None:
    site.create(trials=1, objective__steps=12, worker__storage_patience="2s")
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 9)
    site.server.stop()
    ended(shell)
    assert shell.returncode == 3
    assert sum(site.trained().values()) == 12
    site.server.ensure_running()
    ended(site.start("worker", "s"))
    site.assert_whole(1, steps=12)
    assert sum(site.trained().values()) == 12, "not one step was trained again"


def test_a_worker_cut_off_for_too_long_drops_its_trial_and_takes_the_next(site: OwnServer) -> None:
    site.create(trials=6)
    cut_off = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 3)
    victims = site.processes(cut_off)
    for each in victims:
        each.suspend()  # it neither trains nor gives a sign of life
    other = site.start("worker", "s")
    wait_until(lambda: site.report()["retries"] == 1)
    other.send_signal(signal.SIGTERM)  # the rest is for the one that was cut off
    ended(other)
    for each in victims:
        each.resume()
    errors = ended(cut_off)
    assert cut_off.returncode == 0
    assert errors.count("was taken back meanwhile; dropped") == 1 and "Traceback" not in errors
    report = site.assert_whole(6)
    assert report["retries"] == 1
    assert any(worker["trials"] for worker in report["workers"][:1]), "it took another trial"


def test_a_hanging_trial_is_ended_and_recorded_with_its_reason(site: OwnServer) -> None:
    site.create(
        trials=2, objective__fault="hang", worker__trial_timeout="4s", worker__max_retries=0
    )
    errors = ended(site.start("worker", "s"))
    assert "hangs" in errors and "killed by somebody" not in errors
    report = site.report()
    assert report["states"]["failed"] == 1 and report["states"]["complete"] == 2
    assert "worker.trial_timeout (4 s)" in report["trials"][0]["reason"]


def test_a_segfault_is_recorded_with_the_last_lines_of_its_log(site: OwnServer) -> None:
    site.create(trials=2, objective__fault="segfault")
    shell = site.start("worker", "s")
    errors = ended(shell)
    assert shell.returncode == 0, errors
    report = site.assert_whole(2)
    assert report["retries"] == 1
    assert "SIGSEGV" in report["trials"][0]["reason"]
    rows = Database(site.server.ensure_running()).execute(
        "SELECT value_json FROM trial_user_attributes WHERE key = 'orch:log'"
    )
    assert "Fatal Python error" in json.loads(rows[0]["value_json"])


def test_a_configuration_that_kills_every_process_is_not_retried_forever(site: OwnServer) -> None:
    site.create(trials=2, objective__fault="poison", worker__max_retries=1, worker__max_failures=2)
    shell = site.start("worker", "s")
    errors = ended(shell, seconds=120)
    assert shell.returncode == 1, errors
    report = site.report()
    assert report["states"]["failed"] == 2 and report["retries"] == 2
    assert "out of memory, or killed" in report["trials"][0]["reason"]


def test_a_process_that_keeps_dying_before_its_first_trial_is_given_up(
    site: OwnServer, tmp_path: Path
) -> None:
    site.create(trials=2)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, os\nif 'orchestrator.worker' in ' '.join(sys.orig_argv): os.abort()\n"
    )
    path = f"{tmp_path}:{site.environment['PYTHONPATH']}"
    command = ["env", f"PYTHONPATH={path}", *site.command("worker", "s")]
    done = subprocess.run(
        command, env=site.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    # Equal lines in a row are folded: a jittered pause may be worded as the one before.
    folded = sum(int(count) - 1 for count in re.findall(r"^… \((\d+) times\)$", done.stderr, re.M))
    assert done.stderr.count("another starts in") + folded == 4, done.stderr
    assert "given up" in done.stderr


def test_a_new_schema_version_ends_a_running_worker_with_one_line(site: OwnServer) -> None:
    site.create(trials=50, objective__steps=3)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 3)
    Database(site.server.ensure_running()).execute("UPDATE orch.schema_version SET version = 99")
    errors = ended(shell)
    assert shell.returncode == 3
    assert "another orch version" in errors.splitlines()[-1] and "Traceback" not in errors


def test_dropped_tables_end_a_running_worker_with_one_line(site: OwnServer) -> None:
    site.create(trials=50, objective__steps=3)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 3)
    database = Database(site.server.ensure_running())
    # It locks every table while the worker writes to them: PostgreSQL may end it as a deadlock.
    retry(lambda: database.execute("DROP SCHEMA orch CASCADE"), 30)
    errors = ended(shell)
    assert shell.returncode == 3, errors
    assert "Traceback" not in errors


def test_checkpoints_are_removed_when_their_trials_end(site: OwnServer) -> None:
    site.create(trials=2, objective__megabytes=2.5)
    ended(site.start("worker", "s", "--processes", "2"))
    site.assert_whole(2)
    rows = Database(site.server.ensure_running()).execute(
        "SELECT (SELECT count(*) FROM orch.checkpoint) + (SELECT count(*) FROM orch.artifact) "
        "+ (SELECT count(*) FROM orch.artifact_chunk) AS left"
    )
    assert rows[0]["left"] == 0


def test_a_checkpoint_folder_is_used_and_empty_at_the_end(site: OwnServer, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    site.create(trials=1, worker__artifacts=str(folder))
    shell = site.start("worker", "s")
    wait_until(lambda: folder.exists() and len(list(folder.iterdir())) >= 2)
    site.kill_machine(shell)
    assert "goes on after step" in ended(site.start("worker", "s"))
    site.assert_whole(1)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_is_skipped_and_logged(site: OwnServer, damaged: int) -> None:
    site.create(trials=1)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 5)
    site.kill_machine(shell)
    database = Database(site.server.ensure_running())
    database.execute(
        "UPDATE orch.artifact_chunk SET body = overlay(body placing '\\xdeadbeef' from 200) "
        "WHERE artifact_id IN (SELECT artifact_id FROM orch.checkpoint "
        "ORDER BY step DESC LIMIT %(damaged)s)",
        {"damaged": damaged},
    )
    errors = ended(site.start("worker", "s"))
    assert errors.count("cannot be used") == damaged
    assert errors.count("goes on after step") == (1 if damaged == 1 else 0)
    site.assert_whole(1)
