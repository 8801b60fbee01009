"""What a reader knows of a study, when the server has crashed and lost what it had told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from crash import kill

from orchestrator.errors import StorageUnavailable
from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.schema import prepare
from orchestrator.storage.trial_cache import Position


class Forgetful:
    """A server that writes hardly anything to its disk which nobody waits for."""

    def __init__(self, folder: Path) -> None:
        self.server = EmbeddedServer(folder)
        self.database = Database(self.server.ensure_running())
        prepare(self.database)
        for setting in (
            "wal_writer_delay = '10s'",
            "autovacuum = off",
            "checkpoint_timeout = '1d'",
        ):
            self.database.execute(f"ALTER SYSTEM SET {setting}")
        self.restart()
        spec = {"study": {"name": "s", "objective": "quadratic", "trials": 9}}
        self.study_id = create(self.database, StudySpec.parse(spec)).study_id
        self.claims = Claims(self.database, self.study_id, uuid4())
        self.claims.join("worker")

    def restart(self) -> None:
        self.database.close()
        self.server.stop()
        self.server.ensure_running()

    def crash(self) -> None:
        """As when the machine loses its power."""
        kill(self.server)
        self.database.close()
        self.server.ensure_running()

    def one_backend_crashes(self) -> None:
        """As when the kernel ends one for its memory: the server's process stays, and recovers."""
        [row] = self.database.execute("SELECT pg_backend_pid() AS pid")
        os.kill(row["pid"], signal.SIGKILL)
        self.database.close()
        while True:
            try:
                self.database.execute("SELECT 1")
                return
            except StorageUnavailable:
                continue

    def started_at(self) -> object:
        return self.database.execute("SELECT pg_postmaster_start_time() AS at")[0]["at"]


@pytest.fixture
def forgetful(open_path: Path) -> Iterator[Forgetful]:
    made = Forgetful(open_path)
    yield made
    made.database.close()
    made.server.stop()


@pytest.mark.parametrize("crash", [Forgetful.crash, Forgetful.one_backend_crashes])
def test_a_trial_cache_is_reset_after_a_server_crash(forgetful: Forgetful, crash: object) -> None:
    assert callable(crash)
    claims, reader = forgetful.claims, PostgresStorage(forgetful.database)
    trial_id = claims.claim().trial_id
    assert trial_id is not None
    for number in range(50):
        assert claims.write(
            trial_id, Writes(user_attributes={"n": str(number)}), durable=False, serial=number + 1
        )[0]
    known = reader.trial_cache(forgetful.study_id)
    assert known.trials()[0].user_attrs["n"] == 49
    before, started = known.position, forgetful.started_at()
    crash(forgetful)
    assert (forgetful.started_at() == started) == (crash is Forgetful.one_backend_crashes)
    # A transaction that gets a number of one that is lost: by its number it would be known.
    assert claims.write(trial_id, Writes(user_attributes={"m": "1"}), serial=99)[0]
    [change] = forgetful.database.execute("SELECT xid::text::integer FROM orch.change")
    assert change["xid"] < int(before.since or 0), "the position was ahead of what survived"
    fresh = PostgresStorage(forgetful.database).get_all_trials(forgetful.study_id)
    assert fresh[0].user_attrs == {"m": 1}
    assert reader.get_all_trials(forgetful.study_id) == fresh
    assert known.position.server != before.server
    # The same with a claim, an end and a report, which bring what a worker's view lacks.
    again = claims.claim(before).changes
    assert again is not None and again.is_whole and [row[0] for row in again.rows][:1] == [trial_id]
    _, changes = claims.write(trial_id, Writes({1: 0.5}), since=before)
    assert changes is not None and changes.is_whole, "all but its own"
    following = claims.finish_and_claim(trial_id, "COMPLETE", [0.5], {}, None, before)
    assert following is not None and following.changes is not None and following.changes.is_whole
    assert {row[0]: row[2] for row in following.changes.rows}[trial_id] == "COMPLETE"


def test_a_trial_cache_stays_while_the_server_runs(forgetful: Forgetful) -> None:
    first = forgetful.claims.claim(Position()).changes
    assert first is not None and first.is_whole
    another = Claims(Database(forgetful.database.url), forgetful.study_id, uuid4())
    another.join("another")
    told = another.claim(first.position).changes
    assert told is not None and not told.is_whole
    assert told.position.server == first.position.server
    another._database.close()
    forgetful.restart()
    again = forgetful.claims.claim(first.position).changes
    assert again is not None and again.is_whole
