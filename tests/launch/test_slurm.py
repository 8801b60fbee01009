"""orch launch slurm, on a real Slurm: requeue, time limits, scale, cancel; the budget is exact."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import Orch
from fault_site import OwnServer, wait_until
from launch.slurm_cluster import SlurmCluster, need_slurm


@pytest.fixture
def cluster(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    need_slurm()
    folder = open_path / "slurm"
    folder.mkdir()
    made = SlurmCluster(folder)
    monkeypatch.setenv("SLURM_CONF", str(made.configuration))
    yield made
    made.close()


def _has_restarted(cluster: SlurmCluster, task: str) -> bool:
    """Whether a requeued task is back; it need not wait for Slurm's two minutes."""
    shown = cluster("scontrol", "show", "job", task)
    if "Restarts=0" in shown:
        return False
    if "JobState=PENDING" in shown:
        # In the second of the requeue, and near it, a node takes the new credential for the old one.
        requeued_at = datetime.fromisoformat(shown.partition("SubmitTime=")[2].split()[0])
        start = (requeued_at + timedelta(seconds=4)).isoformat()
        with contextlib.suppress(subprocess.CalledProcessError):  # it may have started meanwhile
            cluster("scontrol", "update", f"JobId={task}", f"StartTime={start}")
        return False
    assert "JobState=FAILED" not in shown, shown
    return "JobState=RUNNING" in shown or "JobState=COMPLETED" in shown


def _tasks_at_work(cluster: SlurmCluster) -> list[str]:
    return [task for task, state in cluster.states().items() if state == "RUNNING"]


def test_an_array_survives_requeue_and_its_time_limit_with_an_exact_budget(
    site: OwnServer, cluster: SlurmCluster
) -> None:
    # Of so many steps that hardly anybody is told to leave in a trial's last one.
    site.create(trials=12, objective__sleep=0.07, objective__steps=40)
    assert "array job" in site("launch", "slurm", "s", "--workers", "2").stderr
    assert "exist" not in site.ok("launch", "status", "slurm", "s")
    assert "launch scale slurm s" in site.refused(2, "launch", "slurm", "s", "--workers", "2")
    wait_until(lambda: len(site.trained()) >= 6 and len(_tasks_at_work(cluster)) == 2, 90)

    requeued, late = _tasks_at_work(cluster)
    cluster("scontrol", "requeue", requeued)
    # What Slurm sends before a time limit; limits themselves are counted in minutes.
    cluster("scancel", "--signal=USR1", "--batch", late)
    wait_until(lambda: _has_restarted(cluster, requeued), 120)
    wait_until(lambda: _has_restarted(cluster, late), 120)
    site.ok("launch", "scale", "slurm", "s", "--workers", "3")
    wait_until(lambda: cluster.states() == {}, 120)

    report = site.assert_whole(12, steps=40)
    assert report["retries"] == 0, "who leaves in order gives its trial back"
    assert "goes on after step" in site.ok("launch", "logs", "slurm", "s")


def test_cancel_releases_the_running_trials(site: OwnServer, cluster: SlurmCluster) -> None:
    site.create(trials=50, objective__steps=10_000)  # no trial ends by itself meanwhile
    site.ok("launch", "slurm", "s", "--workers", "2")
    wait_until(lambda: len({x for x, _ in site.trained()}) == 2, 90)
    site.ok("launch", "scale", "slurm", "s", "--workers", "1")
    wait_until(lambda: len(cluster.states()) == 1, 60)
    site.ok("launch", "cancel", "slurm", "s")
    wait_until(lambda: cluster.states() == {}, 60)
    states = site.report()["states"]
    assert states["running"] == 0 and states["waiting"] == 2 and states["failed"] == 0


def test_without_slurm_one_line_says_what_to_install(
    site: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.create(trials=1)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt install slurm-client" in site.refused(2, "launch", "slurm", "s", "--workers", "1")


def test_a_cluster_is_refused_with_the_embedded_server_of_another_machine(orch: Orch) -> None:
    assert "orch db serve" in orch.refused(2, "launch", "slurm", "s", "--workers", "1")


def test_a_dry_run_prints_the_script_without_a_password(orch: Orch) -> None:
    orch.storage = "postgresql://u:geheim@db.lab/orch"
    script = orch.ok(
        "launch", "slurm", "mlp", "--workers", "4", "--processes", "2", "--gpus", "1",
        "--memory", "8G", "--option=--partition=long", "--dry-run",
    )  # fmt: skip
    for words in ("--gres=gpu:1", "--mem=8G", "--partition=long", "--cpus-per-task=2", "--requeue",
                  "worker mlp --processes 2"):  # fmt: skip
        assert words in script
    assert "geheim" not in script
