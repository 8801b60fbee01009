"""Locks are taken in one order (``functions/trials.sql``): nobody waits for one who waits for them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from worker.workplace import Workplace, take

from orchestrator.errors import StorageError
from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Claims, Failure, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy, delete, ensure_budget
from orchestrator.storage.trial_cache import Position

DOMAIN = (
    '{"name": "FloatDistribution", '
    '"attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}'
)


class BusyWorker:
    """A worker with three sessions: its main one, its reporter's, and that of a forked child."""

    def __init__(self, url: str, study: StoredStudy) -> None:
        self._url, self._study, self._token = url, study, uuid4()
        self._random = random.Random(self._token.int)
        self._trial: int | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(act,))
            for act in (self._work, self._report, self._write_from_a_child)
        ]
        self.stopped = threading.Event()
        self.rounds = 0
        self.errors: list[str] = []

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def join(self) -> None:
        for each in self._threads:
            each.join()

    def _repeat(self, act: Callable[[Database, Claims], None]) -> None:
        database = Database(self._url)
        claims = Claims(database, self._study.study_id, self._token)
        try:
            claims.join("busy")
            while not self.stopped.is_set():
                act(database, claims)
        except StorageError as error:
            self.errors.append(str(error))
        finally:
            database.close()

    def _work(self, database: Database, claims: Claims) -> None:
        claim = claims.claim(Position())
        if claim.outcome == "gone":
            self.stopped.set()
        self._trial = claim.trial_id
        if claim.trial_id is None:
            return
        self._keep_configuration(claims, claim.trial_id)
        claims.write(claim.trial_id, self._writes(), durable=False, since=Position())
        claims.save_checkpoint(claim.trial_id, 1, str(uuid4()), "0", self._writes())
        end = self._random.randrange(5)
        if end == 0:
            claims.fail(claim.trial_id, "on purpose", {}, Failure())
        elif end == 1:
            claims.release(claim.trial_id)
        elif end == 2:
            claims.finish(claim.trial_id, "COMPLETE", [0.5], {"k": 1})
        else:
            claims.finish_and_claim(claim.trial_id, "PRUNED", [0.5], {"k": 1}, None, Position())
        self.rounds += 1

    def _keep_configuration(self, claims: Claims, trial_id: int) -> None:
        """Of so few that the workers want the same ones, and one draws what the other has kept."""
        keys = [str(self._random.randrange(20)) for _ in range(2)]
        claims.list_configurations(None, {trial_id: keys[0]})
        claims.keep_configuration(trial_id, keys[1], self._writes())

    def _report(self, database: Database, claims: Claims) -> None:
        trial = self._trial
        if trial is not None:
            claims.write(trial, self._writes(), durable=False, since=Position())
        claims.renew()

    def _write_from_a_child(self, database: Database, claims: Claims) -> None:
        trial = self._trial
        try:
            if trial is not None:
                PostgresStorage(database).set_trial_user_attr(trial, "k", self._random.random())
        except (KeyError, UpdateFinishedTrialError):
            pass  # it has ended, or is gone, meanwhile

    def _writes(self) -> Writes:
        value = str(self._random.random())
        return Writes({1: 0.5}, {"x": (0.5, DOMAIN)}, {"k": value}, {"s": value})


def test_a_study_is_deleted_under_busy_workers_without_a_deadlock(
    database: Database, url: str, name: str
) -> None:
    rounds = 0
    for turn in range(25):
        spec = {
            "study": {"name": f"{name}-{turn}", "objective": "quadratic", "trials": 10_000},
            "worker": {"max_retries": 1, "max_failures": 10_000},
        }
        study = create(database, StudySpec.parse(spec))
        workers = [BusyWorker(url, study) for _ in range(2)]
        for each in workers:
            each.start()
        deadline = time.monotonic() + 60
        while min(each.rounds for each in workers) < 3 and time.monotonic() < deadline:
            # What others do at the same time.
            ensure_budget(database, study, 10_000 + rounds)
        delete(database, study)
        for each in workers:
            each.join()
        assert [each.errors for each in workers] == [[], []], turn
        rounds += sum(each.rounds for each in workers)
    assert rounds >= 25 * 6
    left = database.execute(
        "SELECT (SELECT count(*) FROM studies WHERE starts_with(study_name, %(name)s)) AS studies, "
        "(SELECT count(*) FROM orch.worker WHERE name = 'busy') AS workers",
        {"name": f"{name}-"},
    )
    assert left == [{"studies": 0, "workers": 0}]


@pytest.mark.parametrize("call", ["claim", "write", "renew", "finish", "fail", "release", "pause",
                                  "resume", "save", "stop_misused"])  # fmt: skip
def test_knowing_a_workers_id_is_not_enough_to_act_for_it(place: Workplace, call: str) -> None:
    """Everybody may read the id; the token is nowhere in the database."""
    place.create(trials=2)
    claims = place.claims()
    trial_id = take(claims)
    forged = Claims(place.database, place.study.study_id, claims.worker_id)
    [row] = place.execute("SELECT worker_id FROM orch.lease WHERE study_id = %(study)s")
    assert UUID(row["worker_id"]) == claims.worker_id != claims.token
    done: dict[str, Callable[[], Any]] = {
        "claim": lambda: forged.claim().outcome != "gone",
        "write": lambda: forged.write(trial_id, Writes({1: 0.5}))[0],
        "renew": lambda: bool(forged.renew()),
        "finish": lambda: forged.finish(trial_id, "COMPLETE", [0.5], {}),
        "fail": lambda: forged.fail(trial_id, "mine", {}),
        "release": lambda: forged.release(trial_id),
        "pause": lambda: forged.pause(trial_id),
        "resume": lambda: forged.resume(trial_id, 1),
        "save": lambda: forged.save_checkpoint(trial_id, 1, "bytes", "0", Writes())[0],
        "stop_misused": lambda: forged.stop_for_wrong_use(trial_id, "mine"),
    }
    assert not done[call]()
    assert place.only().state.name == "RUNNING"
    assert claims.finish(trial_id, "COMPLETE", [0.5], {})
