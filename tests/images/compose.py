"""``make images``: the image of deploy/Dockerfile and compose as deploy/README.md says, word for word.

On a real Podman and a real Docker; the public images are stood in for by Debian's packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from images.engines import ENGINES, HEALTH_CHECKS, Engine, configure
from images.machine import PACKAGES, Machine, booted, bootstrap
from images.stand_ins import stand_ins

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "build" / "images"
ADDRESS = "http://127.0.0.1:8080"
COMPOSE = "docker compose -f deploy/compose.yaml"


def _told(text: str) -> None:
    print(f"\n{text}", file=sys.__stderr__, flush=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of a Debian with both engines, the stand-ins and a copy of this checkout."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes namespaces and mounts")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("needs mmdebstrap (a Debian with its package mmdebstrap)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = FOLDER / "debian"
    if not made.exists():
        bootstrap("trixie", PACKAGES, made)
    configure(made)
    (made / "images").mkdir(exist_ok=True)
    for each in stand_ins():
        each.make(made / "images")
    _copy_checkout(made / "source")
    return made


def _copy_checkout(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.split("\0"):
        if name and (CHECKOUT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)


@dataclass
class System:
    """The composed system on one engine."""

    engine: Engine
    machine: Machine

    def wait(self, is_so: Callable[[], bool], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, self.machine(f"{COMPOSE} ps --all; {COMPOSE} logs")
            time.sleep(1)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """As the engine describes them."""
        names = self.machine.ok(
            f"docker ps --all --quiet --filter label=com.docker.compose.service={service}"
            " --filter label=com.docker.compose.oneoff=False"
        ).split()
        found: list[dict[str, Any]] = json.loads(
            self.machine.ok(f"docker inspect {' '.join(names)}") if names else "[]"
        )
        return found

    def report(self) -> dict[str, Any]:
        text = self.machine.ok(f"{COMPOSE} run --rm worker report mlp --format json")
        read: dict[str, Any] = json.loads(text)
        return read

    def finished(self) -> int:
        states = self.report()["states"]
        return int(states["complete"] + states["pruned"])

    def answers(self) -> bool:
        """Whether the dashboard lists the study."""
        done = self.machine(f"curl --silent --fail --location {ADDRESS}/api/studies")
        return done.returncode == 0 and "mlp" in done.stdout


@pytest.fixture(params=ENGINES, ids=lambda each: each.name)
def system(request: pytest.FixtureRequest, root: Path) -> Iterator[System]:
    """The engine with the image, in a machine that reaches nothing but itself."""
    engine: Engine = request.param
    log = FOLDER / f"{engine.name}.log"
    with booted(root, network=True) as machine:
        engine.start(machine, log)
        for each in stand_ins():
            each.bring(machine)
        started_at = time.monotonic()
        built = machine(
            "docker build --network host -f deploy/Dockerfile -t orch:latest .", timeout=3600
        )
        assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
        seconds = time.monotonic() - started_at
        size = int(machine.ok("docker image inspect --format '{{.Size}}' orch:latest"))
        version = machine.ok(engine.version).strip()
        _told(f"{version}: image of {size / 1e9:.2f} GB in {seconds:.0f} s")
    with booted(root, network=False) as machine:
        engine.start(machine, log)
        if engine.name == "podman":
            machine.start(HEALTH_CHECKS, FOLDER / "health.log")
        # Of a run that was ended in the middle; its database has another password.
        machine.ok(f"{COMPOSE} down --volumes --timeout 5")
        try:
            yield System(engine, machine)
        finally:
            logs = machine(f"{COMPOSE} ps --all; {COMPOSE} logs")
            (FOLDER / f"{engine.name}-compose.log").write_text(logs.stdout + logs.stderr)
            machine(f"{COMPOSE} down --volumes --timeout 20")


def readme_blocks() -> list[list[str]]:
    """The commands of "Compose" in deploy/README.md, block by block."""
    text = (CHECKOUT / "deploy" / "README.md").read_text()
    section = text.partition("## Compose\n")[2].partition("\n## ")[0]
    return [
        block.strip().splitlines() for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)
    ]


def test_the_readme_of_deploy_word_for_word(system: System) -> None:
    started_at = time.monotonic()
    start, end = readme_blocks()
    for line in start:
        system.machine.ok(line, timeout=900)

    workers = system.containers("worker")
    assert len(workers) == 4
    for each in workers:
        assert each["Config"]["User"] == "10001" and each["HostConfig"]["ReadonlyRootfs"]
    system.wait(lambda: system.finished() >= 4)
    system.wait(system.answers)
    _no_root_is_written_to(system)

    # A stop in the middle: who trains gives its trial back, and no trial is lost or counted twice.
    system.machine.ok(f"{COMPOSE} stop")
    stopped = system.containers("worker")
    assert [each["State"]["ExitCode"] for each in stopped] == [130] * 4
    system.machine.ok(f"{COMPOSE} start")
    system.wait(system.answers)
    _a_dashboard_that_dies_comes_back(system)

    system.wait(lambda: system.finished() == 60, 900)
    states = system.report()["states"]
    assert states["complete"] + states["pruned"] == 60, states
    for line in end:
        system.machine.ok(line)
    assert not system.containers("postgres")
    _told(f"{system.engine.name}: README in {time.monotonic() - started_at:.0f} s")


def _no_root_is_written_to(system: System) -> None:
    for service in ("worker", "dashboard", "nginx"):
        for each in system.containers(service):
            refused = system.machine(f"docker exec {each['Id']} touch /written")
            assert "Read-only file system" in refused.stderr + refused.stdout
            changed = system.machine.ok(f"docker diff {each['Id']}").splitlines()
            assert {Path(line.split()[1]) for line in changed} <= _mount_points(each), service


def _mount_points(container: dict[str, Any]) -> set[Path]:
    """What an engine makes for that which it mounts."""
    places = {Path(each["Destination"]) for each in container["Mounts"]}
    places |= {Path(each) for each in container["HostConfig"]["Tmpfs"] or {}}
    return places | {above for each in places for above in each.parents} | {Path("/etc")}


def _a_dashboard_that_dies_comes_back(system: System) -> None:
    [dashboard] = system.containers("dashboard")
    pid = dashboard["State"]["Pid"]
    system.machine.ok(f"kill -9 {pid}")
    system.wait(lambda: system.containers("dashboard")[0]["State"]["Pid"] not in (0, pid))
    system.wait(system.answers)
