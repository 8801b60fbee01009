"""Kubernetes: an indexed Job, one worker a pod, through kubectl."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from orchestrator.errors import OrchError, UsageError
from orchestrator.launchers.launcher import Job, Launcher, Worker, call, label

_INSTALL = "install it: https://kubernetes.io/docs/tasks/tools/"
_HOME = "/var/lib/orch"
_SECRETS = "/etc/orch"
# An evicted pod's worker ends its epoch, writes its checkpoint and gives its trial back.
_GRACE_SECONDS = 120
_TAIL_LINES = 20
_LONGEST_NAME = 52  # the pods' names append an index and five letters


class Kubernetes(Launcher):
    """Workers as the pods of one Job that is named after the study.

    Args:
        namespace: where; None: that of kubectl's current context.
        image: of ``deploy/Dockerfile``, or built on it; needed to start.
        secret: a Secret with ``url``, and where it takes them ``password`` and ``ca.crt``.
    """

    name = "kubernetes"
    hands_storage_on = False

    def __init__(
        self, namespace: str | None, image: str = "orch:latest", secret: str = "orch-storage"
    ) -> None:
        self._namespace = namespace
        self._image = image
        self._secret = secret

    def submit(self, job: Job, workers: int) -> str:
        name = job_name(job.study)
        found = self._job(job.study)
        if found is not None and _ending(found) is None:
            size = self.hint("scale", job.study, "--workers", str(workers))
            raise UsageError(
                f"Kubernetes has a Job {name} already; change its size with: {size}, or end it "
                f"with: {self.hint('cancel', job.study)}"
            )
        if found is not None:  # its pods and their logs make way for the new ones
            self._kubectl("delete", "job", name, "--cascade=foreground", "--wait")
        self._kubectl("apply", "--filename=-", standard_input=self.planned(job, workers))
        return f"Job {name}"

    def planned(self, job: Job, workers: int) -> str:
        """The manifest, as ``kubectl apply`` takes it."""
        text: str = yaml.safe_dump(self.manifest(job, workers), sort_keys=False)
        return text

    def manifest(self, job: Job, workers: int) -> dict[str, Any]:
        """The Job."""
        labels = {"app.kubernetes.io/name": "orch", "app.kubernetes.io/component": "worker"}
        metadata: dict[str, Any] = {
            "name": job_name(job.study),
            "labels": labels,
            "annotations": {"orch/study": job.study},
        }
        if self._namespace:
            metadata["namespace"] = self._namespace
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {
                # Elastic: with as many completions as pods, both may be changed together.
                "completionMode": "Indexed",
                "completions": workers,
                "parallelism": workers,
                "backoffLimitPerIndex": 6,
                "podFailurePolicy": {"rules": _FAILURE_RULES},
                "template": {"metadata": {"labels": labels}, "spec": self._pod(job)},
            },
        }

    def status(self, study: str) -> list[Worker]:
        return [
            Worker(pod["metadata"]["name"], _state(pod), pod["spec"].get("nodeName", ""))
            for pod in self._pods(study)
            if pod["status"]["phase"] in ("Pending", "Running")
        ]

    def ended(self, study: str) -> str | None:
        found = self._job(study)
        return None if found is None else _ending(found)

    def rescale(self, study: str, workers: int) -> None:
        found = self._job(study)
        ending = None if found is None else _ending(found)
        if found is None or ending is not None:
            start = shlex.join(["orch", "launch", self.name, study, "--workers", str(workers)])
            state = "Kubernetes has no" if found is None else "it has ended:"
            raise OrchError(
                f"{state} {ending or f'Job {job_name(study)}'}; start one with: {start} --image "
                + shlex.join(["IMAGE", *self.where()])
            )
        size = {"spec": {"parallelism": workers, "completions": workers}}
        self._kubectl("patch", "job", job_name(study), f"--patch={json.dumps(size)}")

    def cancel(self, study: str) -> None:
        self._kubectl("delete", "job", job_name(study), "--ignore-not-found", "--wait=false")

    def logs(self, study: str) -> str:
        return "\n".join(self._tail(pod) for pod in self._pods(study))

    def where(self) -> Sequence[str]:
        return ["--namespace", self._namespace] if self._namespace else []

    def _tail(self, pod: dict[str, Any]) -> str:
        """kubectl's own choice by a selector fails for all pods where one has not started."""
        name = pod["metadata"]["name"]
        if not _has_started(pod):
            word = "it waits" if pod["status"]["phase"] == "Pending" else "it has no output"
            return f"== {name}\n({word}: {': '.join([_state(pod), *_causes(pod)])})"
        try:
            text = self._kubectl("logs", name, f"--tail={_TAIL_LINES}")
        except OrchError as error:  # e.g. it has gone meanwhile
            text = f"({error})"
        return f"== {name}\n{text}".rstrip()

    def _job(self, study: str) -> dict[str, Any] | None:
        answer = self._kubectl("get", "job", job_name(study), "--ignore-not-found", "--output=json")
        found: dict[str, Any] | None = json.loads(answer) if answer.strip() else None
        return found

    def _pods(self, study: str) -> list[dict[str, Any]]:
        answer = self._kubectl(
            "get", "pods", f"--selector=job-name={job_name(study)}", "--output=json"
        )
        pods: list[dict[str, Any]] = json.loads(answer)["items"]
        return pods

    def _pod(self, job: Job) -> dict[str, Any]:
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container(job)],
            "volumes": [
                {"name": "home", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "storage", "secret": {"secretName": self._secret, "defaultMode": 0o440}},
            ],
        }

    def _container(self, job: Job) -> dict[str, Any]:
        requests: dict[str, Any] = {"cpu": f"{job.cpus:g}"}
        limits: dict[str, Any] = {}
        if job.memory:
            requests["memory"] = limits["memory"] = job.memory
        if job.gpus:
            limits["nvidia.com/gpu"] = job.gpus
        url = {"secretKeyRef": {"name": self._secret, "key": "url"}}
        return {
            "name": "worker",
            "image": self._image,
            # The tag latest alone would be pulled for each pod, also where the node has the image.
            "imagePullPolicy": "IfNotPresent",
            "args": job.arguments(),
            "env": [
                {"name": "ORCH_STORAGE", "valueFrom": url},
                {"name": "ORCH_PASSWORD_FILE", "value": f"{_SECRETS}/password"},
                {"name": "ORCH_HOME", "value": _HOME},
            ],
            "resources": {"requests": requests} | ({"limits": limits} if limits else {}),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "home", "mountPath": _HOME},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "storage", "mountPath": _SECRETS, "readOnly": True},
            ],
        }

    def _kubectl(self, *arguments: str, standard_input: str | None = None) -> str:
        where = [f"--namespace={self._namespace}"] if self._namespace else []
        return call(["kubectl", *where, *arguments], _INSTALL, standard_input)


# The second of each comes first, while pods still end: such a Job starts none any more.
_ENDINGS = {
    "Complete": "complete",
    "SuccessCriteriaMet": "complete",
    "Failed": "failed",
    "FailureTarget": "failed",
}


def _ending(job: dict[str, Any]) -> str | None:
    """How a Job ended, or is about to once its last pods have; None: it does not."""
    for condition in job.get("status", {}).get("conditions", []):
        kind = _ENDINGS.get(condition["type"])
        if kind is not None and condition["status"] == "True":
            told = [condition.get("reason"), condition.get("message")]
            reason = ": ".join(each for each in told if each)
            word = f"Job {job['metadata']['name']} {kind}"
            return f"{word} ({reason})" if reason else word
    return None


def _state(pod: dict[str, Any]) -> str:
    """The word that ``kubectl get pods`` has for it."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for container in pod["status"].get("containerStatuses", []):
        reason: str | None = container["state"].get("waiting", {}).get("reason")
        if reason:
            return reason
    phase: str = pod["status"]["phase"]
    return phase


def _causes(pod: dict[str, Any]) -> list[str]:
    """What the cluster says of it, e.g. that no node has room or that a Secret is missing."""
    status = pod["status"]
    waiting = [each["state"].get("waiting", {}) for each in status.get("containerStatuses", [])]
    unscheduled = [
        each
        for each in status.get("conditions", [])
        if each["type"] == "PodScheduled" and each["status"] == "False"
    ]
    told = [each.get("message") for each in (status, *waiting, *unscheduled)]
    return [each for each in told if each]


def _has_started(pod: dict[str, Any]) -> bool:
    containers = pod["status"].get("containerStatuses", [])
    return any("waiting" not in each["state"] for each in containers)


# The first rule that fits decides. 130: it was asked to leave; 3: the database is away for now.
# 1 and 2: no pod would do better.
_FAILURE_RULES: list[dict[str, Any]] = [
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {
        "action": "Ignore",
        "onExitCodes": {"containerName": "worker", "operator": "In", "values": [3, 130, 143]},
    },
    {
        "action": "FailJob",
        "onExitCodes": {"containerName": "worker", "operator": "In", "values": [1, 2]},
    },
]


def job_name(study: str) -> str:
    """What a study's Job is called: a DNS label, the same for the same study."""
    wanted = label(study)
    name = re.sub(r"[^a-z0-9-]+", "-", wanted.lower())[:_LONGEST_NAME].rstrip("-")
    if name == wanted:
        return name
    digest = hashlib.sha256(study.encode()).hexdigest()[:6]
    return f"{name[: _LONGEST_NAME - 7].rstrip('-')}-{digest}"
