"""The embedded server: started on demand, kept running, recovered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import Orch

from orchestrator.storage.embedded import EmbeddedServer


@pytest.fixture
def own_home(open_path: Path) -> Iterator[Path]:
    """A home that no other test uses, because these break its server."""
    folder = open_path / "home"
    yield folder
    EmbeddedServer(folder).stop()


def test_the_embedded_server_runs_until_db_stop(own_home: Path) -> None:
    orch = Orch(own_home)
    orch.ok("db", "start")
    pid = EmbeddedServer(own_home).pid()
    assert pid is not None and psutil.pid_exists(pid)
    assert "schema" in orch.ok("db", "status")
    orch.ok("db", "stop")
    assert EmbeddedServer(own_home).pid() is None
    assert "orch db start" in orch.refused(3, "db", "status")


def test_concurrent_commands_start_one_embedded_server(own_home: Path) -> None:
    orch = Orch(own_home)
    starting = [orch.start("list") for _ in range(4)]
    ends = [(each.communicate(timeout=120), each.returncode) for each in starting]
    assert [code for _, code in ends] == [0, 0, 0, 0], ends
    running = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(own_home / "postgres") in (process.info["cmdline"] or [])
    ]
    assert len(running) == 1


def test_a_killed_server_recovers_all_committed_data(own_home: Path) -> None:
    orch = Orch(own_home)
    orch.ok("create", "kept", "--objective", "quadratic")
    pid = EmbeddedServer(own_home).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert "kept" in orch.ok("list")
    assert EmbeddedServer(own_home).pid() != pid


def test_a_stale_pid_file_naming_another_program_is_recovered(own_home: Path) -> None:
    orch = Orch(own_home)
    orch.ok("db", "start")
    pid_file = own_home / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    orch.ok("db", "stop")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        orch.ok("list")
        assert other.poll() is None, "the other program must be left alone"
    finally:
        other.kill()
        other.wait()


def test_a_half_written_pid_file_is_recovered(own_home: Path) -> None:
    orch = Orch(own_home)
    orch.ok("db", "start")
    orch.ok("db", "stop")
    (own_home / "postgres" / "postmaster.pid").write_text("12")
    orch.ok("list")


def test_an_interrupted_initdb_is_repeated(own_home: Path) -> None:
    (own_home / "postgres").mkdir(parents=True)
    (own_home / "postgres" / "half").write_text("")
    Orch(own_home).ok("list")
    assert list(own_home.glob("postgres.incomplete-*"))


def test_an_unwritable_home_prints_one_line_and_exits_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = Orch(tmp_path / "file" / "home").refused(3, "list")
    assert "ORCH_HOME" in message


def test_two_homes_have_two_servers(own_home: Path, home: Path) -> None:
    Orch(home).ok("create", "only-here", "--objective", "quadratic")
    assert "only-here" not in Orch(own_home).ok("list")
