"""Connections: every wait of ours ends, and nobody else's is touched."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import psutil
import psycopg2
import pytest
from optuna.exceptions import StorageInternalError
from psycopg2.extensions import encrypt_password

from orchestrator.errors import StorageError, StorageUnavailable
from orchestrator.storage import connection as connect
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.rdb_storage import connect_watched, make_rdb_storage
from orchestrator.storage.schema import prepare
from orchestrator.storage.url import addresses, hosts_of


@pytest.fixture(autouse=True)
def the_usual_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    connect.answer_within(30)
    for variable in ("PGHOST", "PGPORT", "PGSERVICE", "PGCONNECT_TIMEOUT"):
        monkeypatch.delenv(variable, raising=False)
    yield
    connect.answer_within(30)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


Handler = Callable[[int, FrameType | None], object]
SetAlarm = Callable[[float, Handler], None]


@pytest.fixture
def alarm() -> Iterator[SetAlarm]:
    """Sends this process a signal in a moment, for a handler."""
    before = signal.getsignal(signal.SIGALRM)

    def set_alarm(seconds: float, handler: Handler) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# A statement


def interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_statement_closes_its_connection(url: str, alarm: SetAlarm) -> None:
    database = Database(url)
    before = database.execute("SELECT pg_backend_pid() AS pid")
    alarm(0.3, interrupt)
    with pytest.raises(KeyboardInterrupt), at_most(10):
        database.execute("SELECT pg_sleep(60)")
    assert database.execute("SELECT 2 AS two") == [{"two": 2}], "not the answer to the other one"
    assert database.execute("SELECT pg_backend_pid() AS pid") != before
    database.close()


def test_an_interrupted_transaction_is_rolled_back(database: Database, alarm: SetAlarm) -> None:
    database.execute("CREATE TABLE IF NOT EXISTS interrupted (n integer)")
    alarm(0.3, interrupt)
    with pytest.raises(KeyboardInterrupt), database.transaction():
        database.execute("INSERT INTO interrupted VALUES (1)")
        database.execute("SELECT pg_sleep(3)")
    assert database.execute("SELECT n FROM interrupted") == []
    database.execute("DROP TABLE interrupted")


def test_a_signal_whose_handler_returns_does_not_interrupt_a_query(
    database: Database, alarm: SetAlarm
) -> None:
    came: list[int] = []
    alarm(0.2, lambda signum, frame: came.append(signum))
    assert database.execute("SELECT pg_sleep(0.6) IS NULL AS slept") == [{"slept": False}]
    assert came == [signal.SIGALRM]


def test_connections_work_with_descriptors_above_1024(url: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("needs 1200 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        used: list[int] = []
        while not used or used[-1] < 1024:
            used.append(os.open(os.devnull, os.O_RDONLY))
            stack.callback(os.close, used[-1])
        connection = connect.connect(url)
        stack.callback(connection.close)
        assert connection.fileno() > 1023
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            connect.wait(connection)
            assert cursor.fetchone() == (1,)


def test_a_password_can_be_hashed_on_our_connections(url: str) -> None:
    connection = connect.connect(url)
    assert encrypt_password("p", "u", connection, "scram-sha-256").startswith("SCRAM-SHA-256$")
    connection.close()


# Connecting


def test_a_silent_host_is_skipped_for_the_next(url: str, silent: int) -> None:
    connect.answer_within(4)
    both = url.replace("?host=", "?host=127.0.0.1,").replace("&port=", f"&port={silent},")
    database = Database(both)
    with at_most(10):
        assert database.execute("SELECT 1 AS one") == [{"one": 1}]
    database.close()


def test_a_silent_server_is_waited_for_until_the_connect_timeout(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://u@127.0.0.1:{silent}/d"
    connect.answer_within(1.5)
    with pytest.raises(StorageUnavailable, match="timeout expired"), at_most(10):
        Database(url).execute("SELECT 1")
    connect.answer_within(30)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "1")
    with pytest.raises(StorageUnavailable, match="timeout expired"), at_most(10):
        Database(url).execute("SELECT 1")
    with pytest.raises(StorageUnavailable, match="timeout expired"), at_most(10):
        connect_watched(url)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "60")
    with pytest.raises(StorageUnavailable, match="timeout expired"), at_most(10):
        Database(f"{url}?connect_timeout=1").execute("SELECT 1")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "soon")
    with pytest.raises(StorageError, match="'soon'; write a whole number of seconds"):
        Database(url).execute("SELECT 1")


def test_an_interrupted_connecting_leaves_nothing_open(silent: int, alarm: SetAlarm) -> None:
    mine = psutil.Process()
    before = mine.num_fds()
    alarm(0.3, interrupt)
    with pytest.raises(KeyboardInterrupt), at_most(10):
        Database(f"postgresql://u@127.0.0.1:{silent}/d").execute("SELECT 1")
    assert mine.num_fds() == before


def test_a_silent_name_server_does_not_block_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def never(*arguments: object, **options: object) -> list[object]:
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    connect.answer_within(1)
    with pytest.raises(StorageUnavailable, match='host name "db" to address: timeout'), at_most(10):
        Database("postgresql://u@db/d").execute("SELECT 1")
    answered.set()


def test_the_addresses_of_a_name_are_tried_in_turn() -> None:
    [host] = hosts_of("postgresql://u@localhost:1/d")
    found = addresses(host, 10)
    assert {each["host"] for each in found} == {"localhost"}
    assert "127.0.0.1" in {each["hostaddr"] for each in found}
    with pytest.raises(StorageUnavailable, match="Connection refused; is the server"):
        Database("postgresql://u@localhost:1/d").execute("SELECT 1")
    with pytest.raises(
        StorageUnavailable, match=r"localhost:1: .*refused 127\.0\.0\.1:2: .*refused"
    ):
        Database("postgresql://u@localhost:1,127.0.0.1:2/d").execute("SELECT 1")


def test_the_hosts_of_a_url_are_parsed_as_by_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(url: str) -> list[tuple[str, ...]]:
        return [tuple(host.values()) for host in hosts_of(url)]

    assert seen("postgresql://u@a:1/d") == [("a", "", "1")]
    assert seen("postgresql:///d") == [("", "", "")]
    assert seen("postgresql://a:1,b:2/d") == [("a", "", "1"), ("b", "", "2")]
    assert seen("postgresql://a,b/d?port=7") == [("a", "", "7"), ("b", "", "7")]
    assert seen("postgresql://a:1,b/d") == [("a", "", "1"), ("b", "", "")]
    assert seen("postgresql:///d?hostaddr=10.0.0.1,10.0.0.2") == [
        ("", "10.0.0.1", ""), ("", "10.0.0.2", "")
    ]  # fmt: skip
    spread = "postgresql://a:1,b:2/d?load_balance_hosts=random"
    assert {seen(spread)[0][0] for _ in range(50)} == {"a", "b"}
    monkeypatch.setenv("PGHOST", "c,d")
    monkeypatch.setenv("PGPORT", "5")
    assert seen("postgresql:///d") == [("c", "", "5"), ("d", "", "5")]
    left = [()]  # to libpq
    assert seen("postgresql://a,b,c/d?port=1,2") == left
    assert seen("postgresql://a:x/d") == left
    assert seen("postgresql:///d?service=mine") == left


# Ordinary connections, under the watchdog


@contextlib.contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    """No process of the server runs; the system still takes connections in its name."""
    pid = server.pid()
    assert pid is not None
    postmaster = psutil.Process(pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def test_optunas_storage_waits_no_longer_than_ours(open_path: Path) -> None:
    server = EmbeddedServer(open_path / "home")
    url = server.ensure_running()
    try:
        database = Database(url)
        prepare(database)
        database.close()
        storage = make_rdb_storage(url)
        assert storage.get_all_studies() == []
        with frozen(server):
            connect.answer_within(1)
            # Of the connection that it has, and of a new one.
            for _ in range(2):
                with pytest.raises((StorageInternalError, StorageUnavailable)) as lost, at_most(15):
                    storage.get_all_studies()
                assert "timeout expired" in str(lost.value.__cause__ or lost.value)
        connect.answer_within(30)
        assert storage.get_all_studies() == []
        storage.engine.dispose()
    finally:
        server.stop()


def test_the_watchdog_closes_only_our_own_slow_connections(url: str) -> None:
    ours = connect_watched(url)
    theirs = psycopg2.connect(url)
    connect.answer_within(0.3)
    with pytest.raises(psycopg2.OperationalError, match=r"timeout expired: no answer in 0\.3 s"):
        ours.cursor().execute("SELECT pg_sleep(60)")
    with theirs, theirs.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1)")
        assert cursor.rowcount == 1
    theirs.close()
    assert ours.closed
    ours.close()
    quick = connect_watched(url)
    with quick, quick.cursor() as cursor:
        for _ in range(3):
            cursor.execute("SELECT pg_sleep(0.2)")
    time.sleep(0.5)  # idle, and nobody waits
    with quick, quick.cursor() as cursor:
        cursor.executemany("SELECT %s", [(1,), (2,)])
        cursor.execute("SELECT nonsense_free FROM (SELECT 3 AS nonsense_free) AS t")
        assert cursor.fetchone() == (3,)
    quick.close()


def test_a_watched_connection_leaks_no_descriptor(url: str) -> None:
    mine = psutil.Process()
    connect_watched(url).close()
    before = mine.num_fds()
    for _ in range(5):
        connect_watched(url).close()
        forgotten = connect_watched(url)
        del forgotten
    assert mine.num_fds() == before


def test_connecting_sets_no_process_wide_callback() -> None:
    assert psycopg2.extensions.get_wait_callback() is None
