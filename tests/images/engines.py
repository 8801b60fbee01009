"""Docker and Podman: both answer at Docker's socket, so that one command line drives them."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from images.machine import Machine

SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True)
class Engine:
    """A container engine as Debian packages it."""

    name: str
    version: str
    daemon: str
    # Where the machine has this one's network, for a build: it must leave that as it is.
    harmless: str = ""

    def start(self, machine: Machine, log: Path) -> None:
        """It answers when this returns."""
        machine.start(f"{self.daemon} {self.harmless if machine.network else ''}", log)
        deadline = time.monotonic() + 60
        while machine("docker version").returncode != 0:
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.2)


ENGINES = [
    Engine("podman", "podman --version", f"podman system service --time=0 unix://{SOCKET}"),
    Engine(
        "docker",
        "dockerd --version",
        "dockerd",
        "--bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false",
    ),
]
# Podman leaves health checks to timers of systemd, which does not run in this machine.
HEALTH_CHECKS = """
while sleep 2; do
    for each in $(podman ps --quiet --filter health=starting --filter health=unhealthy); do
        podman healthcheck run "$each" || true
    done
done
"""


def configure(root: Path) -> None:
    """Write what the engines read in the machine's folder."""
    files = root / "etc" / "containers"
    files.mkdir(parents=True, exist_ok=True)
    # Without CAP_SYS_RESOURCE no process may raise its limits, as Podman's defaults would.
    limits = [
        f"{name}={hard}:{hard}"
        for name, each in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
        if (hard := resource.getrlimit(each)[1]) != resource.RLIM_INFINITY
    ]
    (files / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = {limits}\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    (files / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
