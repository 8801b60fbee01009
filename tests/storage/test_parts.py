"""What the storage is made of, part by part: connections, embedded server, files, a worker's view."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from orchestrator.base.files import home, write_whole
from orchestrator.errors import StorageError, StorageUnavailable, UsageError
from orchestrator.search.pruners import RungIndex
from orchestrator.storage import connection as connect
from orchestrator.storage import embedded, worker_storage
from orchestrator.storage.artifacts import open_artifacts
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.trial_cache import Changes, Position, TrialCache
from orchestrator.storage.worker_storage import WorkerStorage

DOMAIN = FloatDistribution(0.0, 1.0)


# Connections


def test_every_statement_has_a_timeout(url: str) -> None:
    database = Database(url)
    assert database.execute("SELECT 1 AS one") == [{"one": 1}]
    connect.answer_within(0.2)
    with pytest.raises(StorageUnavailable, match=r"timeout expired: no answer in 0\.2 s"):
        database.execute("SELECT pg_sleep(60)")
    connect.answer_within(30)
    assert database.execute("SELECT 2 AS two") == [{"two": 2}], "on a connection of its own"
    database.close()


def test_the_password_is_read_from_a_file_unless_the_url_has_one(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "password"
    path.write_text("se cret\n")
    monkeypatch.setenv("ORCH_PASSWORD_FILE", str(path))
    assert connect._password_of_file(url) == {"password": "se cret"}
    assert connect._password_of_file("postgresql://u:own@h/d") == {}
    Database(url).execute("SELECT 1")
    monkeypatch.setenv("ORCH_PASSWORD_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match=r"ORCH_PASSWORD_FILE .*nowhere: No such file"):
        Database(url).execute("SELECT 1")


def test_an_error_in_a_statement_is_not_treated_as_an_outage(url: str) -> None:
    database = Database(url)
    before = database.execute("SELECT pg_backend_pid() AS pid")
    with pytest.raises(StorageError) as refused:
        database.execute("SELECT nonsense")
    assert not isinstance(refused.value, StorageUnavailable)
    assert database.execute("SELECT pg_backend_pid() AS pid") == before, "the same connection"
    other = Database(url)
    other.execute("SELECT pg_terminate_backend(%(pid)s, 10000)", dict(before[0]))
    with pytest.raises(StorageUnavailable):
        database.execute("SELECT 1")
    assert database.execute("SELECT pg_backend_pid() AS pid") != before
    database.close()
    other.close()


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    database.execute("CREATE TEMP TABLE noted (n integer)")
    with database.transaction():
        database.execute("INSERT INTO noted VALUES (1)")
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.execute("INSERT INTO noted VALUES (2)")
        raise ZeroDivisionError
    assert database.execute("SELECT n FROM noted") == [{"n": 1}]
    # One whose connection has ended has nothing to roll back.
    with pytest.raises(StorageUnavailable), database.transaction():
        database.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert database.execute("SELECT 1 AS one") == [{"one": 1}]


# The embedded server


@pytest.fixture
def server(open_path: Path) -> Iterator[EmbeddedServer]:
    """A server of the test's own, which it may break."""
    server = EmbeddedServer(open_path / "home")
    server.ensure_running()
    yield server
    server.stop()


def test_a_server_that_cannot_start_or_answer_is_reported_in_one_line(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_PATIENCE_SECONDS", 0.0)
    assert server.stop() and not server.stop()
    hba = server.data / "pg_hba.conf"
    right = hba.read_text()
    hba.write_text("local all all reject\n")
    with pytest.raises(StorageError, match=r"started but does not answer: .*reject"):
        server.ensure_running()
    hba.write_text(right)
    assert server.stop()
    settings = server.data / "postgresql.conf"
    kept = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    with pytest.raises(StorageError, match=r"does not start: .*postgresql\.conf"):
        server.ensure_running()
    (server.data / "log").unlink()
    assert server._last_log_line() == "it left no log"
    settings.write_text(kept)
    monkeypatch.undo()
    server.ensure_running()


def test_a_server_that_does_not_stop_is_named(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCTLTIMEOUT", "1")
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StorageError, match="does not stop"):
            server.stop()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_server_that_listens_on_tcp_alone_is_found(server: EmbeddedServer) -> None:
    server.stop()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hba = server.data / "pg_hba.conf"
    hba.write_text("host all all 127.0.0.1/32 trust\n")
    options = f"-c unix_socket_directories= -c listen_addresses=127.0.0.1 -p {port}"
    server._postgres(
        "pg_ctl", "-w", "-D", str(server.data), "-l", str(server.data / "log"), "-o", options,
        "start",
    )  # fmt: skip
    assert server.url() == f"postgresql://postgres@127.0.0.1:{port}/postgres"


def test_the_home_is_the_users_data_folder_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCH_HOME", "~/there")
    assert home() == Path.home() / "there"
    monkeypatch.delenv("ORCH_HOME")
    assert home().name == "orch"


# Files and stores


def test_a_file_stays_unchanged_when_it_cannot_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError):
        write_whole(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_an_artifact_store_that_cannot_be_opened_says_how_to_fix_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be used: Not a directory"):
        open_artifacts(str(tmp_path / "file" / "folder"), database, 1)
    for module in [each for each in sys.modules if each.startswith(("boto3", "optuna.artifacts"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(
        UsageError, match=r"s3://bucket needs an extra; pip install 'optuna-orchestrator\[s3\]'"
    ):
        open_artifacts("s3://bucket", database, 1)


# The storage of a worker


class Kept:
    """An outbox that keeps what goes into it."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    def write_param(self, name: str, value: float, distribution: str) -> None:
        self.written.append((name, value))

    def write_user_attribute(self, key: str, value: str) -> None:
        self.written.append((key, value))

    def write_system_attribute(self, key: str, value: str) -> None:
        self.written.append((key, value))


@pytest.fixture
def storage(database: Database) -> PostgresStorage:
    return PostgresStorage(database)


@pytest.fixture
def study_id(storage: PostgresStorage, name: str) -> Iterator[int]:
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
    yield study_id
    storage.delete_study(study_id)


def test_worker_storage_buffers_its_own_trial_and_writes_others_at_once(
    storage: PostgresStorage, database: Database, study_id: int
) -> None:
    outbox = Kept()
    here = WorkerStorage(database, study_id)
    own, other = storage.create_new_trial(study_id), storage.create_new_trial(study_id)
    with pytest.raises(KeyError):
        here.start_trial(own, outbox)  # it is not known here yet
    here.sync()
    assert here.start_trial(own, outbox)._trial_id == own
    for trial_id in (own, other):
        here.set_trial_param(trial_id, "x", 0.5, DOMAIN)
        here.set_trial_user_attr(trial_id, "user", [1])
        here.set_trial_system_attr(trial_id, "system", {"a": None})
    assert outbox.written == [("x", 0.5), ("user", "[1]"), ("system", '{"a": null}')]
    # What is read of its own trial is what was written, though the database has not seen it.
    for trial_id in (own, other):
        seen = here.get_trial(trial_id)
        assert (seen.params, seen.distributions) == ({"x": 0.5}, {"x": DOMAIN})
        assert (seen.user_attrs, seen.system_attrs) == ({"user": [1]}, {"system": {"a": None}})
    assert storage.get_trial(own).params == {} and storage.get_trial(other).params == {"x": 0.5}
    with pytest.raises(ValueError):
        here.set_trial_param(own, "x", 1, type_of_another_kind())
    # While it runs it is newer here; once it has ended, the server knows better.
    storage.set_trial_user_attr(own, "user", "theirs")
    here.sync()
    assert here.get_trial(own).user_attrs == {"user": [1]}
    storage.set_trial_state_values(own, TrialState.COMPLETE, [1.0])
    here.sync()
    here.finish_trial()
    assert here.get_trial(own).user_attrs == {"user": "theirs"}
    assert here.get_all_trials(study_id)[0].state == TrialState.COMPLETE


def type_of_another_kind() -> Any:
    from optuna.distributions import IntDistribution

    return IntDistribution(0, 3)


def test_recent_changes_are_not_queried_again(
    storage: PostgresStorage,
    database: Database,
    study_id: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_storage, "_FRESH_SECONDS", 1000.0)
    here = WorkerStorage(database, study_id)
    here.sync()
    storage.create_new_trial(study_id)
    assert here.get_all_trials(study_id) == []
    here.finish_trial()
    assert len(here.get_all_trials(study_id)) == 1
    changed, seen = here.changed_since((0, 0))
    assert [trial.number for trial in changed] == [0]
    assert here.changed_since(seen) == ([], seen)


def row_of(trial_id: int, number: int, state: str, rung: str | None = None) -> list[Any]:
    """As ``orch.read_trials`` writes a trial."""
    noted = None if rung is None else [["completed_rung_0", rung]]
    return [trial_id, number, state, *[None] * 6, noted]


def test_a_cache_from_another_server_is_reset_but_keeps_the_workers_trial() -> None:
    cache, first, second = TrialCache(), Position("1", "70"), Position("2", "60")
    rows = [row_of(7, 0, "COMPLETE", "0.5"), row_of(8, 1, "RUNNING"), row_of(9, 2, "RUNNING")]
    cache.take(Changes(first, rows, is_whole=True))
    own = cache.trial(9)
    own.system_attrs["here"] = True
    _, seen = cache.changed_since((0, 0))
    assert seen == (1, 3)
    # The crash has lost trial 8 and the rung of 7.
    rows = [row_of(7, 0, "RUNNING"), row_of(9, 2, "RUNNING")]
    cache.take(Changes(second, rows, is_whole=True), own=9)
    assert [(trial._trial_id, trial.system_attrs) for trial in cache.trials()] == [
        (7, {}), (9, {"here": True}),
    ]  # fmt: skip
    changed, (view, _) = cache.changed_since(seen)
    assert view == 2 and {trial.number for trial in changed} == {0, 2}, "all of them"
    with pytest.raises(KeyError):
        cache.trial(8)
    # An answer that the server of before has given, and that comes now, is of no use.
    cache.take(Changes(first, [row_of(8, 1, "COMPLETE")]))
    assert cache.position == second and len(cache.trials()) == 2


def test_a_pruner_forgets_rungs_lost_in_a_crash() -> None:
    cache, index = TrialCache(), RungIndex()
    rows = [row_of(7, 0, "COMPLETE", "0.5"), row_of(8, 1, "RUNNING", "0.25")]
    cache.take(Changes(Position("1"), rows, is_whole=True))
    for trial in index.changed(cache):
        index.put(0, trial)
    assert index.others(0, "completed_rung_0", number=9) == [0.25, 0.5]
    cache.take(Changes(Position("2"), rows[:1], is_whole=True))
    for trial in index.changed(cache):
        index.put(0, trial)
    assert index.others(0, "completed_rung_0", number=9) == [0.5]


def test_worker_storage_answers_for_other_studies_like_the_plain_storage(
    storage: PostgresStorage, database: Database, study_id: int, name: str
) -> None:
    here = WorkerStorage(database, study_id)
    other = storage.create_new_study([StudyDirection.MINIMIZE] * 2, f"{name}-other")
    storage.create_new_trial(other)
    assert here.get_study_id_from_name(name) == study_id
    assert here.get_study_id_from_name(f"{name}-other") == other
    assert here.get_study_directions(study_id) == [StudyDirection.MAXIMIZE]
    assert here.get_study_directions(other) == [StudyDirection.MINIMIZE] * 2
    assert len(here.get_all_trials(other)) == 1 and here.get_all_trials(study_id) == []
    gone = WorkerStorage(database, other)
    storage.delete_study(other)
    with pytest.raises(KeyError):
        gone.sync()
