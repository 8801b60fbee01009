"""``make kubernetes``: the manifests and the launcher on the cluster that KUBECONFIG names.

In a namespace of its own, which is deleted afterwards. ORCH_IMAGE is an image of this checkout that
the nodes have or can pull, with a tag.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Orch
from fault_site import wait_until

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kubernetes"
IMAGE = os.environ.get("ORCH_IMAGE", "orch:latest")


class Namespace:
    """What deploy/kubernetes makes, under a name that nobody else has."""

    def __init__(self, orch: Orch, folder: Path) -> None:
        self.name = f"orch-{secrets.token_hex(4)}"
        self._orch = orch
        self._folder = folder

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """What kubectl says."""
        done = subprocess.run(
            ["kubectl", f"--namespace={self.name}", *words],
            input=given, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def launch(self, verb: str, study: str, *words: str) -> subprocess.CompletedProcess[str]:
        """``orch launch`` of this namespace: ``kubernetes`` or one of the verbs for what it started."""
        engine = [] if verb == "kubernetes" else ["kubernetes"]
        return self._orch("launch", verb, *engine, study, *words, "--namespace", self.name)

    def start(self, study: str, workers: int) -> None:
        done = self.launch("kubernetes", study, f"--workers={workers}", "--cpus=0.25", f"--image={IMAGE}")  # fmt: skip
        assert done.returncode == 0, done.stderr

    def create(self, study: str, trials: int) -> None:
        """As docs/deploy.md says it."""
        self.inside(
            "create", study, "--objective", "digits", "--trials", str(trials), "--epochs", "3"
        )

    def inside(self, *words: str) -> str:
        return self.kubectl("exec", "deploy/dashboard", "--container=dashboard", "--", "orch", *words)  # fmt: skip

    def states(self, study: str) -> dict[str, int]:
        report: dict[str, Any] = json.loads(self.inside("report", study, "--format", "json"))
        states: dict[str, int] = report["states"]
        return states

    def finished(self, study: str) -> int:
        states = self.states(study)
        return states["complete"] + states["pruned"]

    def is_complete(self, study: str) -> bool:
        """Whether status says so; before the first pod is made it names none either."""
        return f"Job orch-{study} complete" in self.launch("status", study).stderr

    def pods(self, study: str) -> dict[str, str]:
        """The workers' pods that wait or run, and how they are."""
        done = self.launch("status", study)
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        return {name: state for name, state, *_ in lines}

    def running(self, study: str) -> list[str]:
        return [name for name, state in self.pods(study).items() if state == "Running"]

    def job(self, study: str) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(
            self.kubectl("get", "job", f"orch-{study}", "--output=json")
        )
        return job

    def apply(self) -> None:
        """The manifests with this namespace, this image and a Secret."""
        shutil.copytree(MANIFESTS, self._folder)
        for name in ("kustomization.yaml", "namespace.yaml"):
            text = (self._folder / name).read_text()
            for key in ("\nnamespace", "\n  name"):
                text = text.replace(f"{key}: orch\n", f"{key}: {self.name}\n")
            (self._folder / name).write_text(text)
        settings = yaml.safe_load((self._folder / "kustomization.yaml").read_text())
        image, _, tag = IMAGE.rpartition(":")
        settings["images"] = [{"name": "orch", "newName": image, "newTag": tag}]
        (self._folder / "kustomization.yaml").write_text(yaml.safe_dump(settings))
        secret = (self._folder / "secret.example.yaml").read_text()
        secret = secret.replace("namespace: orch\n", f"namespace: {self.name}\n")
        secret = secret.replace("@postgres.orch.svc", f"@postgres.{self.name}.svc")
        secret = secret.replace("CHANGE-ME", secrets.token_hex(16))
        self.kubectl("apply", f"--kustomize={self._folder}")
        self.kubectl("apply", "--filename=-", given=secret)
        for each in ("statefulset/postgres", "deployment/dashboard"):
            self.kubectl("rollout", "status", each, "--timeout=600s")


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Namespace]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs KUBECONFIG, the file that names a cluster to try this on")
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    made = Namespace(Orch(home), tmp_path_factory.mktemp("manifests") / "kubernetes")
    try:
        made.apply()
        yield made
    finally:
        subprocess.run(
            ["kubectl", "delete", "namespace", made.name, "--ignore-not-found"], check=False
        )


def test_workers_are_evicted_and_scaled_and_the_budget_is_exact(namespace: Namespace) -> None:
    namespace.create("mlp", 60)
    namespace.start("mlp", 2)
    wait_until(lambda: len(namespace.running("mlp")) == 2, 300)
    refused = namespace.launch("kubernetes", "mlp", "--workers=2", f"--image={IMAGE}")
    assert refused.returncode == 2 and "launch scale kubernetes mlp" in refused.stderr

    evicted = namespace.running("mlp")[0]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": evicted, "namespace": namespace.name},
    }
    path = f"/api/v1/namespaces/{namespace.name}/pods/{evicted}/eviction"
    namespace.kubectl("create", "--raw", path, "--filename=-", given=json.dumps(eviction))
    wait_until(
        lambda: len(namespace.running("mlp")) == 2 and evicted not in namespace.running("mlp"), 300
    )
    assert not namespace.job("mlp")["status"].get("failed"), "an eviction does not count"

    assert namespace.launch("scale", "mlp", "--workers=1").returncode == 0
    wait_until(lambda: len(namespace.pods("mlp")) == 1, 300)
    assert namespace.launch("scale", "mlp", "--workers=3").returncode == 0
    wait_until(lambda: namespace.is_complete("mlp"), 1800)
    assert namespace.launch("status", "mlp").stdout == ""
    assert namespace.finished("mlp") == 60


def test_a_job_that_is_complete_is_not_scaled_but_launched_anew(namespace: Namespace) -> None:
    namespace.create("short", 2)
    namespace.start("short", 1)
    wait_until(lambda: namespace.is_complete("short"), 600)
    refused = namespace.launch("scale", "short", "--workers=3")
    assert refused.returncode == 1 and "Job orch-short complete" in refused.stderr
    before = namespace.job("short")["metadata"]["uid"]
    namespace.start("short", 1)
    assert namespace.job("short")["metadata"]["uid"] != before
    wait_until(lambda: namespace.is_complete("short"), 600)
    assert namespace.finished("short") == 2


def test_logs_of_the_others_are_shown_though_one_pod_waits(namespace: Namespace) -> None:
    namespace.create("long", 1000)
    namespace.start("long", 1)
    wait_until(lambda: len(namespace.running("long")) == 1, 300)
    [running] = namespace.running("long")
    waiting = _pod_that_waits(namespace, running)
    namespace.kubectl("apply", "--filename=-", given=json.dumps(waiting))
    assert namespace.pods("long")["waits"] == "Pending"
    logs = namespace.launch("logs", "long").stdout
    assert "== waits\n(it waits: Pending: " in logs and "nodes are available" in logs
    assert f"== {running}\n" in logs


def test_a_cancelled_study_has_no_workers_and_no_running_trials(namespace: Namespace) -> None:
    assert namespace.launch("cancel", "long").returncode == 0
    wait_until(lambda: set(namespace.pods("long")) <= {"waits"}, 300)
    assert namespace.states("long")["running"] == 0


def _pod_that_waits(namespace: Namespace, other: str) -> dict[str, Any]:
    """One more of the study's pods, which no node takes."""
    pod: dict[str, Any] = json.loads(namespace.kubectl("get", "pod", other, "--output=json"))
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "waits", "labels": {"job-name": "orch-long"}},
        "spec": spec | {"nodeSelector": {"orch/no-node": "has-this"}},
    }
