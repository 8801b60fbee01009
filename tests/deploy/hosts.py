"""Several hosts on one machine: network namespaces with addresses of their own, on one bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

_COUNT = 4


def need_namespaces() -> None:
    """Skip the test where no hosts can be made."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (Debian's package iproute2)")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("this system lets nobody make network namespaces")


@dataclass(frozen=True)
class Host:
    """One host of the lab."""

    namespace: str
    hub: str
    port: str
    address: str

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *words]

    def cut(self) -> None:
        """As a pulled cable: nothing arrives, nobody is told."""
        _ip("-n", self.hub, "link", "set", self.port, "down")

    def mend(self) -> None:
        _ip("-n", self.hub, "link", "set", self.port, "up")


class Lab:
    """A switch in a namespace of its own, and hosts 10.71.0.1 to 10.71.0.4 on it."""

    def __init__(self) -> None:
        stem = f"orch{os.getpid()}"
        self.hub = f"{stem}hub"
        self._namespaces = [self.hub]
        _ip("netns", "add", self.hub)
        _ip("-n", self.hub, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.hub, "link", "set", "switch", "up")
        self.hosts = [self._host(f"{stem}h{each}", each) for each in range(1, _COUNT + 1)]

    def _host(self, namespace: str, number: int) -> Host:
        host = Host(namespace, self.hub, f"port{number}", f"10.71.0.{number}")
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        link = ["link", "add", host.port, "type", "veth", "peer", "name", "eth0"]
        _ip("-n", self.hub, *link, "netns", namespace)
        _ip("-n", self.hub, "link", "set", host.port, "master", "switch", "up")
        _ip("-n", namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", device, "up")
        return host

    def close(self) -> None:
        for namespace in reversed(self._namespaces):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def _ip(*words: str) -> Sequence[str]:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout.splitlines()
