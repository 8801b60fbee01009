"""Faults of the server itself: failover to a standby, recovery, a full disk, a frozen server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fault_site import OwnServer, ended, wait_until

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Node:
    """One PostgreSQL of a replicated pair, on TCP."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self._runner = EmbeddedServer(data.parent)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-k {self.data} -c listen_addresses=127.0.0.1 -c port={self.port}"
        self._control("-o", options, "-l", str(self.data / "log"), "start")

    def stop(self, mode: str) -> None:
        self._control("-m", mode, "stop")

    def promote(self) -> None:
        self._control("promote")

    def copy_to(self, data: Path) -> None:
        # Into a folder of the server's own system user, under root.
        data.parent.mkdir(parents=True)
        shutil.copystat(self.data, data.parent)
        owner = self.data.stat()
        os.chown(data.parent, owner.st_uid, owner.st_gid)
        self._runner._postgres(
            "pg_basebackup", "-d", self.url, "-D", str(data), "-R", "-X", "stream"
        )

    def _control(self, *arguments: str) -> None:
        self._runner._postgres("pg_ctl", "-w", "-D", str(self.data), *arguments)


@pytest.fixture
def pair(open_path: Path) -> Iterator[tuple[Node, Node]]:
    """A primary and a standby that confirms each commit."""
    embedded = EmbeddedServer(open_path / "primary")
    embedded.ensure_running()
    embedded.stop()
    trust = "host all,replication all 127.0.0.1/32 trust\n"
    (embedded.data / "pg_hba.conf").write_text(trust)
    primary, standby = Node(embedded.data), Node(open_path / "standby" / "postgres")
    primary.start()
    primary.copy_to(standby.data)
    standby.start()
    database = Database(primary.url)
    database.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    database.execute("SELECT pg_reload_conf()")
    database.close()
    yield primary, standby
    for node in (primary, standby):
        with contextlib.suppress(subprocess.CalledProcessError):  # the test has stopped it
            node.stop("immediate")


def test_a_study_continues_on_the_urls_second_host_after_a_failover(
    site: OwnServer, pair: tuple[Node, Node]
) -> None:
    primary, standby = pair
    both = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    site.storage = f"postgresql://postgres@{both}/postgres"
    site.create(trials=4)
    shell = site.start("worker", "s", "--processes", "2")
    wait_until(lambda: sum(site.trained().values()) >= 6)
    primary.stop("immediate")
    time.sleep(1)
    standby.promote()
    database = Database(standby.url)
    database.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
    database.execute("SELECT pg_reload_conf()")
    database.close()
    errors = ended(shell)
    assert shell.returncode == 0, errors
    site.assert_whole(4)
    repeated = sum(count - 1 for count in site.trained().values())
    assert repeated <= 2, "at most the running epoch of each worker"


def test_a_server_in_recovery_is_named(site: OwnServer, pair: tuple[Node, Node]) -> None:
    site.storage = pair[1].url
    assert "in recovery" in site.refused(3, "list")


def test_a_frozen_server_is_an_outage_like_any_other(site: OwnServer) -> None:
    site.create(trials=3)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 3)
    pid = site.server.pid()
    assert pid is not None
    postmaster = psutil.Process(pid)
    frozen = [postmaster, *postmaster.children(recursive=True)]
    for process in frozen:
        process.suspend()
    before = sum(site.trained().values())
    time.sleep(8)
    during = sum(site.trained().values()) - before
    for process in frozen:
        process.send_signal(signal.SIGCONT)
    errors = ended(shell)
    assert shell.returncode == 0, errors
    assert during >= 4, "training went on"
    assert "timeout expired: no answer" in errors
    site.assert_whole(3)


def test_a_full_disk_is_waited_for(site: OwnServer, open_path: Path) -> None:
    small = open_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(small)],
        check=False, capture_output=True,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        _study_on_a_full_disk(site, small)
    finally:
        site.server.stop()
        subprocess.run(["umount", "-l", str(small)], check=False)


def _study_on_a_full_disk(site: OwnServer, small: Path) -> None:
    url = site.server.ensure_running()
    owner = site.server.data.stat()
    os.chown(small, owner.st_uid, owner.st_gid)
    administrator = Database(url)
    administrator.execute(f"CREATE TABLESPACE small LOCATION '{small}'")
    administrator.execute("CREATE DATABASE small TABLESPACE small")
    site.storage = url.replace("/postgres?", "/small?")
    site.create(trials=3, objective__megabytes=0.5)
    shell = site.start("worker", "s")
    wait_until(lambda: sum(site.trained().values()) >= 3)
    hog = small / "hog"
    with contextlib.suppress(OSError), hog.open("wb", buffering=0) as file:
        while file.write(bytes(65536)) == 65536:
            pass
    before = sum(site.trained().values())
    time.sleep(3)
    assert sum(site.trained().values()) > before, "training goes on"
    hog.unlink()
    errors = ended(shell)
    assert shell.returncode == 0, errors
    assert "No space left" in errors, "the disk was really full"
    site.assert_whole(3)
