"""After an upgrade of a real older database, workers of this version finish its studies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from old_databases import VERSIONS, OldOrch, OldServer, RecordedWorker, old_server

from orchestrator.storage.database import Database
from orchestrator.storage.schema import prepare, upgrade

STUDIES = ("running", "retry", "paused", "stages", "models", "unbounded", "metrics", "limited")


@pytest.fixture(scope="module")
def server() -> Iterator[OldServer]:
    with old_server() as made:
        yield made


@pytest.fixture(scope="module", params=VERSIONS)
def upgraded(server: OldServer, request: pytest.FixtureRequest) -> OldOrch:
    orch = server.orch(server.restored(request.param))
    orch.ok("db", "upgrade")
    return orch


@pytest.mark.parametrize("study", STUDIES)
def test_workers_finish_an_upgraded_study_within_its_budget(upgraded: OldOrch, study: str) -> None:
    budget = upgraded.report(study)["budget"]
    checkpoint = _newest_checkpoint(upgraded, study)
    # This machine may have other versions of Python or Keras than the one of the dump.
    upgraded.ok("resume", study, "--workers", "2", "--allow-mismatch")
    report = upgraded.report(study)
    states = report["states"]
    assert states["complete"] + states["pruned"] == budget == report["budget"]
    assert states["running"] == states["waiting"] == states["failed"] == 0
    if study in ("running", "retry"):
        [retry] = [trial for trial in report["trials"] if trial["retry_of"] is not None]
        assert _restarts(upgraded, study, retry["number"]) == f"[[{checkpoint}, 0]]"


def test_a_confirmation_of_an_older_version_is_that_of_its_study(upgraded: OldOrch) -> None:
    assert upgraded.report("bowl")["confirmed"] is not None


def _newest_checkpoint(orch: OldOrch, study: str) -> int | None:
    assert orch.storage is not None
    [row] = Database(orch.storage).execute(
        "SELECT max(step) AS step FROM orch.checkpoint JOIN trials USING (trial_id) "
        "JOIN studies USING (study_id) WHERE study_name = %(study)s",
        {"study": study},
    )
    return row["step"]  # type: ignore[no-any-return]


def _restarts(orch: OldOrch, study: str, number: int) -> str:
    """At which steps the trial went on from a checkpoint."""
    assert orch.storage is not None
    [row] = Database(orch.storage).execute(
        "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
        "JOIN studies USING (study_id) WHERE key = 'orch:restarts' AND study_name = %(study)s "
        "AND number = %(number)s",
        {"study": study, "number": number},
    )
    return str(row["value_json"])


def test_an_upgrade_beside_busy_workers_fails_no_attempt_and_blocks_none(
    server: OldServer,
) -> None:
    url = server.restored(6)
    database = Database(url)
    database.execute(
        "UPDATE orch.study SET budget = 1000, spec = jsonb_set(spec, '{study,trials}', '1000') "
        "WHERE study_id = 11"
    )
    workers = [RecordedWorker(url) for _ in range(4)]
    answers: list[list[dict[str, Any]]] = [[] for _ in workers]

    def work(worker: RecordedWorker, ended: list[dict[str, Any]]) -> None:
        worker.start()
        while not ended or ended[-1]["outcome"] == "trial":
            for statement in worker.during:
                time.sleep(0.05)
                assert worker.ask(statement).get("held", True)
            ended.append(worker.finish())

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(workers, answers, strict=True)
    ]
    for thread in threads:
        thread.start()
    _wait(lambda: all(len(ended) >= 2 for ended in answers))
    usual = max(max(worker.waits) for worker in workers)
    prepare(database)
    for thread in threads:
        thread.join()
    # Each has ended its trial after the upgrade, and was then told to leave.
    assert [ended[-1]["outcome"] for ended in answers] == ["schema"] * 4
    assert all(answer["ended"] == "ended" for ended in answers for answer in ended)
    longest = max(max(worker.waits) for worker in workers)
    assert longest < max(2.0, 5 * usual), f"a call waited {longest:.1f} s, before {usual:.1f} s"
    [row] = database.execute(
        "SELECT count(*) FILTER (WHERE state = 'COMPLETE') AS complete, count(*) AS trials "
        "FROM trials WHERE study_id = 11"
    )
    assert row["complete"] == row["trials"] == sum(map(len, answers))
    database.close()


def test_workers_continue_while_the_functions_are_recreated(
    server: OldServer,
) -> None:
    """As in an upgrade that their version outlives."""
    url = server.new()
    orch = server.orch(url)
    orch.ok("create", "busy", "--objective", "quadratic", "--trials", "40", "--pruner", "none",
            "--set", "objective.sleep=0.05")  # fmt: skip
    database = Database(url)
    shell = orch.start("worker", "busy", "--processes", "4")
    _wait(lambda: bool(database.execute("SELECT 1 FROM trials WHERE state = 'COMPLETE'")))
    for _ in range(3):
        upgrade(database, 7)
    _, errors = shell.communicate(timeout=300)
    assert shell.returncode == 0, errors
    report = orch.report("busy")
    assert report["states"]["complete"] == 40 == len(report["trials"])
    database.close()


def _wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)
