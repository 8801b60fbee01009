"""A real Ray cluster on this machine: nodes of one declared core each, in a folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from e2e.test_server_faults import free_port


def need_ray() -> None:
    """Skip the test where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray (pip install 'optuna-orchestrator[ray]'); see make cluster")


class RayCluster:
    """Nodes that come and go; the first is the head."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.nodes = [
            self._start(
                "--head", f"--port={port}", "--include-dashboard=false",
                f"--ray-client-server-port={free_port()}",
            )
        ]  # fmt: skip

    def add(self) -> None:
        self.nodes.append(self._start(f"--address={self.address}"))

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """As a power cut: everything of the node at once, the workers too."""
        whole = psutil.Process(node.pid)
        victims = [whole, *whole.children(recursive=True)]
        for each in victims:
            each.suspend()
        for each in victims:
            each.kill()
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
                sys.executable, "-c", code, "start", *arguments, "--node-ip-address=127.0.0.1",
                "--num-cpus=1", "--block", "--disable-usage-stats",
                f"--object-store-memory={80 * 2**20}",
            ],
            env={**os.environ, "RAY_TMPDIR": str(self._folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
