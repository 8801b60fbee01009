"""orch launch ray, on a real Ray cluster of two local nodes: one killed, scale, logs, cancel."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.test_server_faults import free_port
from fault_site import OwnServer, wait_until
from launch.ray_cluster import RayCluster, need_ray


@pytest.fixture
def cluster(
    open_path: Path, site: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RayCluster]:
    """Two nodes."""
    need_ray()
    # A worker has the environment of its node, and OwnServer's objective writes there.
    monkeypatch.setenv("STEPS_LOG", site.environment["STEPS_LOG"])
    made = RayCluster(open_path)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    monkeypatch.setenv("RAY_TMPDIR", str(open_path))
    # A node that comes before its head is up gives up.
    wait_until(lambda: site("launch", "status", "ray", "s").returncode == 0, 90)
    made.add()
    yield made
    made.close()


def _states(site: OwnServer) -> list[str]:
    """Each actor's state, as ``orch launch status`` says it."""
    return [line.split()[1] for line in site.ok("launch", "status", "ray", "s").splitlines()]


def _at_work(site: OwnServer) -> list[str]:
    """The workers that run a trial, as the study has them."""
    return [each["worker"] for each in site.report()["trials"] if each["state"] == "RUNNING"]


def test_ray_actors_keep_the_budget_when_a_node_is_killed(
    site: OwnServer, cluster: RayCluster
) -> None:
    site.create(trials=30, objective__sleep=0.3)
    assert "2 actors" in site("launch", "ray", "s", "--workers", "2").stderr
    assert "launch scale ray s" in site.refused(2, "launch", "ray", "s", "--workers", "2")
    wait_until(lambda: _states(site) == ["RUNNING"] * 2 and len(_at_work(site)) == 2, 90)
    wait_until(lambda: "COMPLETE" in site.ok("launch", "logs", "ray", "s"), 60)

    cluster.kill(cluster.nodes[1])
    wait_until(lambda: _states(site).count("RUNNING") == 1, 120)
    cluster.add()
    wait_until(lambda: _states(site) == ["RUNNING"] * 2, 120)
    # When the study is done the actors end themselves.
    wait_until(lambda: _states(site) == [], 240)

    report = site.assert_whole(30)
    assert report["retries"] == 1, "what the killed node ran was taken back"
    assert len(report["workers"]) == 3, "the lost actor was started again"


def test_scale_logs_and_cancel_manage_the_ray_actors(site: OwnServer, cluster: RayCluster) -> None:
    site.create(trials=50, objective__steps=10_000)  # no trial ends by itself meanwhile
    site.ok("launch", "ray", "s", "--workers", "1")
    wait_until(lambda: _states(site) == ["RUNNING"] and len(_at_work(site)) == 1, 90)
    site.ok("launch", "scale", "ray", "s", "--workers", "3")
    # There are two cores, and it is Ray that says who gets them.
    wait_until(lambda: sorted(_states(site)) == ["RUNNING", "RUNNING", "WAITING"], 90)
    wait_until(lambda: len(_at_work(site)) == 2, 90)
    site.ok("launch", "scale", "ray", "s", "--workers", "2")
    assert _states(site) == ["RUNNING"] * 2, "the one that waits goes first"
    site.ok("launch", "scale", "ray", "s", "--workers", "1")
    wait_until(lambda: _states(site) == ["RUNNING"] and len(_at_work(site)) == 1, 60)

    assert "== orch-s/" in site.ok("launch", "logs", "ray", "s")
    site.ok("launch", "cancel", "ray", "s")
    assert _states(site) == [] and site.ok("launch", "logs", "ray", "s").strip() == ""
    states = site.report()["states"]
    assert states["running"] == 0 and states["waiting"] == 2 and states["failed"] == 0


def test_without_a_cluster_one_line_says_how_to_start_one(
    site: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("ray") is None:
        assert "pip install 'optuna-orchestrator[ray]'" in site.refused(
            2, "launch", "status", "ray", "s"
        )
        return
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    assert "ray start --head" in site.refused(1, "launch", "status", "ray", "s")
    assert "ray start --head" in site.refused(
        1, "launch", "status", "ray", "s", "--address", "nowhere"
    )
