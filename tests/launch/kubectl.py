"""A stand-in for kubectl that replays the answers of a cluster: those of Kubernetes 1.36.

It keeps the cluster in the file that KUBECTL_CLUSTER names: {"namespace", "job", "pods", "logs"}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

CLUSTER = "KUBECTL_CLUSTER"


def answer(cluster: dict[str, Any], verb: str, words: list[str]) -> str:
    """What kubectl prints; it changes the cluster as the command does."""
    if verb == "get" and words[0] == "job":
        return json.dumps(cluster["job"]) if _is_there(cluster, words[1]) else ""
    if verb == "get":
        return json.dumps({"items": cluster["pods"]})
    if verb == "apply":
        if cluster["job"] is not None:
            raise SystemExit("The Job is invalid: spec.template: field is immutable")
        cluster["job"] = yaml.safe_load(sys.stdin.read())
        return "job.batch created"
    if verb == "delete":
        cluster["job"], cluster["pods"] = None, []
        return "job.batch deleted"
    if verb == "patch":
        cluster["job"]["spec"].update(json.loads(words[2].partition("=")[2])["spec"])
        return "job.batch patched"
    return _logs(cluster, words[0])


def _is_there(cluster: dict[str, Any], name: str) -> bool:
    return cluster["job"] is not None and cluster["job"]["metadata"]["name"] == name


def _logs(cluster: dict[str, Any], pod: str) -> str:
    if pod.startswith("--selector"):
        raise SystemExit("the launcher asks each pod for itself")
    if pod not in cluster["logs"]:
        raise SystemExit(
            f'Error from server (BadRequest): container "worker" in pod "{pod}" is waiting to '
            "start: ContainerCreating"
        )
    text: str = cluster["logs"][pod]
    return text


def main() -> None:
    path = Path(os.environ[CLUSTER])
    cluster = json.loads(path.read_text())
    words = sys.argv[1:]
    wanted = cluster.get("namespace")
    if wanted:
        if words[0] != f"--namespace={wanted}":
            raise SystemExit("another namespace was asked")
        words = words[1:]
    print(answer(cluster, words[0], words[1:]))
    path.write_text(json.dumps(cluster))


if __name__ == "__main__":
    main()
