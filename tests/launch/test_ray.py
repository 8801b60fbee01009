"""orch launch ray, on a real Ray cluster of two local nodes, one of them killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.test_server_faults import free_port
from fault_site import Site, wait_until


class RayCluster:
    """Nodes of one core each, all on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes = [
            self._start(
                "--head", "--include-dashboard=false", f"--port={self.address.partition(':')[2]}"
            )
        ]

    def add(self) -> None:
        self.nodes.append(self._start(f"--address={self.address}"))

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """As a power cut: everything of the node at once."""
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
        self.nodes.remove(node)

    def close(self) -> None:
        for node in reversed(list(self.nodes)):
            node.terminate()
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                self.kill(node)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        code = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
        return subprocess.Popen(
            [
                sys.executable, "-c", code, "start", *arguments, "--num-cpus=1", "--block",
                "--disable-usage-stats",
                f"--object-store-memory={80 * 2**20}",
            ],
            env={**os.environ, "RAY_TMPDIR": str(self._folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip


@pytest.fixture
def cluster(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray (pip install 'orch[ray]'); see make cluster")
    # A worker has the environment of its node, and Site's objective writes there.
    monkeypatch.setenv("STEPS_LOG", str(open_path / "home" / "steps.log"))
    made = RayCluster(open_path)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    monkeypatch.setenv("RAY_TMPDIR", str(open_path))
    yield made
    made.close()


@pytest.fixture
def site(open_path: Path) -> Iterator[Site]:
    made = Site(open_path / "home")
    made.storage = made.server.ensure_running()
    yield made
    made.server.stop()


def _running(site: Site) -> int:
    return site("launch", "status", "ray", "s").stdout.count("RUNNING")


def test_actors_keep_the_budget_though_a_node_is_killed(site: Site, cluster: RayCluster) -> None:
    site.create(trials=30, objective__sleep=0.3)
    wait_until(lambda: site("launch", "status", "ray", "s").returncode == 0, 90)
    cluster.add()  # a node that comes before its head is up gives up
    site.ok("launch", "ray", "s", "--workers", "2")
    assert "launch scale ray s" in site.refused(2, "launch", "ray", "s", "--workers", "2")
    wait_until(lambda: _running(site) == 2, 90)
    wait_until(lambda: len(site.trained()) >= 6, 90)
    cluster.kill(cluster.nodes[1])
    wait_until(lambda: _running(site) == 1, 120)
    cluster.add()
    wait_until(lambda: _running(site) == 2, 120)
    site.ok("launch", "scale", "ray", "s", "--workers", "1")
    assert _running(site) == 1
    assert "COMPLETE" in site.ok("launch", "logs", "ray", "s")
    site.ok("launch", "cancel", "ray", "s")
    assert site.ok("launch", "status", "ray", "s") == ""
    # What the killed node held is taken back after the grace period, by whoever comes next.
    site.ok("launch", "ray", "s", "--workers", "2")
    wait_until(lambda: site("launch", "status", "ray", "s").stdout == "", 240)
    site.assert_whole(30)


def test_without_a_cluster_one_line_says_how_to_start_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("ray") is None:
        assert "pip install 'orch[ray]'" in site.refused(2, "launch", "status", "ray", "s")
        return
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    assert "ray start --head" in site.refused(1, "launch", "status", "ray", "s")
