"""orch launch kubernetes: the manifest against the published schema. No cluster is here."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import Orch

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
