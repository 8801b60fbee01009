"""A server that loses its power: nothing of it has the time to write what it knows."""

from __future__ import annotations

import signal

import psutil

from orchestrator.storage.embedded import EmbeddedServer


def kill(server: EmbeddedServer) -> None:
    pid = server.pid()
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    for each in family:
        each.suspend()
    for each in family:
        each.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
