"""orch launch kubernetes: the manifest against the published schema, and the answers of a cluster.

The answers are replayed; ``make kubernetes`` asks a real one.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import Orch
from launch import kubectl

from orchestrator.launchers.kubernetes import Kubernetes, job_name
from orchestrator.launchers.launcher import Job


def _validate(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_dry_run_prints_a_valid_kubernetes_job(orch: Orch) -> None:
    text = orch.ok(
        "launch", "kubernetes", "mlp", "--workers", "8", "--image", "lab/orch:1", "--cpus", "4",
        "--gpus", "1", "--memory", "8Gi", "--namespace", "tuning", "--dry-run",
    )  # fmt: skip
    manifest = yaml.safe_load(text)
    _validate(manifest)
    spec = manifest["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] == 8
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["worker", "mlp", "--processes", "1"]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}
    assert pod["securityContext"]["runAsNonRoot"] and pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert "value" not in container["env"][0], "the URL comes from a Secret"


def test_the_schema_rejects_a_wrong_manifest() -> None:
    manifest = Kubernetes(None).manifest(Job("mlp"), 2)
    manifest["spec"]["podFailurePolicy"]["rules"][0]["action"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        _validate(manifest)


class Cluster:
    """A namespace with the Job of one study, as kubectl tells of it."""

    def __init__(self, folder: Path, namespace: str | None = None) -> None:
        self.file = folder / "cluster.json"
        self.set(namespace=namespace, job=None, pods=[], logs={})

    def set(self, **facts: Any) -> None:
        before = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.file.write_text(json.dumps(before | facts))

    def set_job(self, study: str, workers: int, ending: tuple[str, str, str] | None = None) -> None:
        job = Kubernetes(None).manifest(Job(study), workers)
        if ending is not None:
            kind, reason, message = ending
            condition = {"type": kind, "status": "True", "reason": reason, "message": message}
            job["status"] = {"conditions": [condition]}
        self.set(job=job)

    @property
    def job(self) -> Any:
        return json.loads(self.file.read_text())["job"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    command = tmp_path / "bin" / "kubectl"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(kubectl.__file__)} "$@"\n'
    )
    command.chmod(0o755)
    made = Cluster(tmp_path)
    monkeypatch.setenv("PATH", str(command.parent))
    monkeypatch.setenv(kubectl.CLUSTER, str(made.file))
    return made


def pod(name: str, phase: str = "Running", **changes: Any) -> dict[str, Any]:
    """As a cluster describes it."""
    state = changes.pop("state", {"running": {"startedAt": "2026-11-26T12:00:00Z"}})
    return {
        "metadata": {"name": name, **changes},
        "spec": {"nodeName": "node-1"},
        "status": {"phase": phase, "containerStatuses": [{"name": "worker", "state": state}]},
    }


WAITING = {"state": {"waiting": {"reason": "ContainerCreating"}}}
EVICTED = {"metadata": {"name": "evicted"}, "spec": {}, "status": {"phase": "Failed"}}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu.",
}
FAILED = (
    "Failed",
    "PodFailurePolicy",
    "Container worker for pod orch/orch-mlp-0-x failed with exit code 1 matching FailJob rule",
)
COMPLETE = ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
LAUNCH = ("launch", "kubernetes", "mlp", "--workers", "3", "--image", "lab/orch:1")


def commands(message: str) -> list[list[str]]:
    """The commands of ours that a message advises."""
    return [
        shlex.split(each)
        for each in re.findall(r"orch launch (?:(?!, or |; |$)[^\n])*", message, re.MULTILINE)
    ]


def test_a_launch_starts_a_job_and_its_hint_names_the_namespace(
    orch: Orch, cluster: Cluster
) -> None:
    cluster.set(namespace="tuning lab")
    done = orch(*LAUNCH, "--cpus", "0.5", "--namespace", "tuning lab")
    assert done.returncode == 0, done.stderr
    [container] = cluster.job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "0.5"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert commands(done.stderr) == [
        ["orch", "launch", "status", "kubernetes", "mlp", "--namespace", "tuning lab"]
    ]


def test_a_running_job_is_not_launched_again_and_the_hints_parse(
    orch: Orch, cluster: Cluster
) -> None:
    cluster.set(namespace="lab")
    cluster.set_job("mlp", 2)
    message = orch.refused(2, *LAUNCH, "--namespace", "lab")
    scale, cancel = commands(message)
    assert scale[2:] == ["scale", "kubernetes", "mlp", "--workers", "3", "--namespace", "lab"]
    assert cancel[2:] == ["cancel", "kubernetes", "mlp", "--namespace", "lab"]
    orch.ok(*scale[1:])
    assert cluster.job["spec"]["parallelism"] == cluster.job["spec"]["completions"] == 3
    orch.ok(*cancel[1:])
    assert cluster.job is None


@pytest.mark.parametrize("ending", [FAILED, COMPLETE])
def test_a_job_that_has_ended_is_launched_anew(
    orch: Orch, cluster: Cluster, ending: tuple[str, str, str]
) -> None:
    cluster.set_job("mlp", 2, ending)
    orch.ok(*LAUNCH)
    assert cluster.job["spec"]["parallelism"] == 3 and "status" not in cluster.job


@pytest.mark.parametrize("ending", [FAILED, COMPLETE])
def test_a_job_that_has_ended_is_not_scaled_and_its_status_says_how_it_ended(
    orch: Orch, cluster: Cluster, ending: tuple[str, str, str]
) -> None:
    cluster.set_job("mlp", 2, ending)
    message = orch.refused(1, "launch", "scale", "kubernetes", "mlp", "--workers", "3")
    told = f"Job orch-mlp {ending[0].lower()} ({ending[1]}: {ending[2]})"
    assert told in message
    assert commands(message) == [["orch", *LAUNCH[:-1], "IMAGE"]]
    assert cluster.job["spec"]["parallelism"] == 2
    done = orch("launch", "status", "kubernetes", "mlp")
    assert done.returncode == 0 and done.stdout == "" and told in done.stderr


def test_a_job_whose_last_pods_are_ending_is_not_scaled_but_launched_anew(
    orch: Orch, cluster: Cluster
) -> None:
    """The cluster has decided, and starts no more pods; it says Failed when the last has ended."""
    cluster.set_job("mlp", 2, ("FailureTarget", *FAILED[1:]))
    cluster.set(pods=[pod("leaving", deletionTimestamp="2026-11-27T05:16:49Z")])
    message = orch.refused(1, "launch", "scale", "kubernetes", "mlp", "--workers", "3")
    assert f"Job orch-mlp failed ({FAILED[1]}: {FAILED[2]})" in message
    assert "leaving" in orch.ok("launch", "status", "kubernetes", "mlp")
    orch.ok(*LAUNCH)
    assert cluster.job["spec"]["parallelism"] == 3 and "status" not in cluster.job


def test_without_a_job_scale_says_how_to_start_one(orch: Orch, cluster: Cluster) -> None:
    message = orch.refused(1, "launch", "scale", "kubernetes", "mlp", "--workers", "3")
    assert "Kubernetes has no Job orch-mlp" in message
    assert commands(message) == [["orch", *LAUNCH[:-1], "IMAGE"]]


def test_status_tells_waiting_running_and_terminating_pods_apart(
    orch: Orch, cluster: Cluster
) -> None:
    cluster.set_job("mlp", 3)
    leaving = pod("c", deletionTimestamp="2026-11-26T12:01:00Z")
    cluster.set(pods=[pod("a"), pod("b", "Pending", **WAITING), leaving, pod("d", "Succeeded")])
    lines = [line.split() for line in orch.ok("launch", "status", "kubernetes", "mlp").splitlines()]
    assert lines == [
        ["a", "Running", "node-1"],
        ["b", "ContainerCreating", "node-1"],
        ["c", "Terminating", "node-1"],
    ]


def test_logs_of_the_others_are_shown_though_one_pod_waits(orch: Orch, cluster: Cluster) -> None:
    cluster.set_job("mlp", 3)
    cluster.set(
        pods=[pod("a"), pod("b", "Pending", **WAITING), pod("gone"), EVICTED],
        logs={"a": "trial 0 ends"},
    )
    text = orch.ok("launch", "logs", "kubernetes", "mlp")
    assert "== a\ntrial 0 ends\n" in text
    assert "== b\n(it waits: ContainerCreating)" in text
    assert "== gone\n(kubectl failed: " in text
    assert "== evicted\n(it has no output: Failed)" in text


def test_logs_say_why_a_pod_waits(orch: Orch, cluster: Cluster) -> None:
    cluster.set_job("mlp", 2)
    missing = {
        "waiting": {
            "reason": "CreateContainerConfigError",
            "message": 'secret "orch-storage" not found',
        }
    }
    full = pod("full", "Pending")
    full["spec"], full["status"] = {}, {"phase": "Pending", "conditions": [UNSCHEDULABLE]}
    cluster.set(pods=[pod("a", "Pending", state=missing), full])
    assert orch.ok("launch", "logs", "kubernetes", "mlp") == (
        '== a\n(it waits: CreateContainerConfigError: secret "orch-storage" not found)\n'
        "== full\n(it waits: Pending: 0/1 nodes are available: 1 Insufficient cpu.)\n"
    )


def test_a_study_that_is_not_in_the_named_storage_starts_no_job(
    orch: Orch, cluster: Cluster, url: str
) -> None:
    orch.ok("create", "other", "--objective", "quadratic", "--storage", url)
    message = orch.refused(1, *LAUNCH, "--storage", url)
    assert "no study 'mlp'" in message and cluster.job is None


@pytest.mark.parametrize("study", ["mlp", "MNIST_mlp.v2", "a" * 100])
def test_each_studys_job_has_a_valid_and_distinct_kubernetes_name(study: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", job_name(study))
    assert job_name(study) != job_name(study + "x")


def test_without_kubectl_one_line_says_how_to_install_it(
    orch: Orch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for command in (["cancel"], ["status"], ["logs"]):
        message = orch.refused(2, "launch", *command, "kubernetes", "mlp")
        assert "kubectl is not on this machine; install it" in message
