"""A server of a test's own, which it may break, and a witness of every trained step."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from conftest import Orch

from orchestrator.storage.embedded import EmbeddedServer

Steps = Counter[tuple[str, int]]


class OwnServer(Orch):
    """A server of the test's own, which it may break, and a log of every trained step."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "STEPS_LOG": str(self.home / "steps.log")}

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.home)

    def create(self, trials: int, **settings: Any) -> None:
        options = {
            # Random values tell configurations apart; a model may draw the best one twice.
            "sampler.name": "random",
            "worker.heartbeat_seconds": 0.4, "worker.grace_seconds": 1.5, "pruner.name": "none",
            **{key.replace("__", "."): value for key, value in settings.items()},
        }  # fmt: skip
        sets = [f"--set={key}={_toml(value)}" for key, value in options.items()]
        self.ok(
            "create", "s", "--objective", "user_objectives:Steps", "--trials", str(trials), *sets
        )

    def trained(self) -> Steps:
        """How often each step of each configuration was trained."""
        try:
            lines = (self.home / "steps.log").read_text().splitlines()
        except FileNotFoundError:
            lines = []
        return Counter((line.split()[0], int(line.split()[1])) for line in lines)

    def report(self, name: str = "s") -> dict[str, Any]:
        return super().report(name)

    def processes(self, shell: subprocess.Popen[str]) -> list[psutil.Process]:
        return psutil.Process(shell.pid).children(recursive=True)

    def kill_machine(self, shell: subprocess.Popen[str]) -> None:
        """As a power cut: the supervisor and its workers at once."""
        victims = [*self.processes(shell), psutil.Process(shell.pid)]
        for each in victims:
            each.suspend()
        for each in victims:
            each.kill()
        shell.wait()

    def assert_whole(self, trials: int, steps: int = 10) -> dict[str, Any]:
        report = self.report()
        states = report["states"]
        assert states["complete"] + states["pruned"] == trials
        assert states["running"] == states["waiting"] == states["failed"] == 0
        for trial in report["trials"]:
            if trial["state"] == "COMPLETE":
                assert list(trial["intermediate"]) == [str(step) for step in range(1, steps + 1)]
                for step, value in trial["intermediate"].items():
                    assert value == pytest.approx(trial["params"]["x"] + int(step))
        return report


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def ended(shell: subprocess.Popen[str], seconds: float = 90) -> str:
    _, errors = shell.communicate(timeout=seconds)
    return errors
