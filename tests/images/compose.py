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
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import pictured, rendered
from images.engines import ENGINES, HEALTH_CHECKS, Engine, configure
from images.machine import PACKAGES, Machine, booted, bootstrap
from images.stand_ins import stand_ins

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "build" / "images"
ADDRESS = "http://127.0.0.1:8080"
COMPOSE = "docker compose -f deploy/compose.yaml"
# What an engine may have changed of the network outside.
NETWORK = "ip link; ip route; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward"
# A minute or more for four workers, so that a stop comes in the middle.
LONG_STUDY_TRIALS = 16
LONG_STUDY = (
    f"create night --objective digits --trials {LONG_STUDY_TRIALS} --epochs 200 --pruner none"
)


def _told(text: str) -> None:
    """What the target prints beside its result."""
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
            time.sleep(5)  # asking is a container of its own

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

    def states(self, study: str) -> dict[str, int]:
        text = self.machine.ok(f"{COMPOSE} run --rm worker report {study} --format json")
        read: dict[str, int] = json.loads(text)["states"]
        return read

    def finished(self, study: str) -> int:
        states = self.states(study)
        return states["complete"] + states["pruned"]

    def has_volume(self) -> bool:
        return "orch_postgres" in self.machine.ok("docker volume ls --quiet").split()

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
        network = machine.ok(NETWORK)
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
        assert machine.ok(NETWORK) == network, "the network of this machine is as it was"
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

    [dashboard] = system.containers("dashboard")
    assert dashboard["RestartCount"] == 0, "it waited for the first study"
    workers = system.containers("worker")
    assert len(workers) == 4
    for each in workers:
        assert each["Config"]["User"] == "10001" and each["HostConfig"]["ReadonlyRootfs"]
    system.wait(system.answers)
    system.wait(lambda: system.finished("mlp") == 60, 1800)
    _no_root_is_written_to(system)
    _the_page_lists_the_study(system)
    _told(
        f"{system.engine.name}: 60 trials and the page after {time.monotonic() - started_at:.0f} s"
    )

    _a_study_that_is_stopped_in_the_middle_goes_on(system)
    _a_dashboard_that_dies_comes_back(system)

    for line in end:
        system.machine.ok(line)
    assert not system.containers("postgres") and system.has_volume()
    assert system.finished("mlp") == 60, "the studies outlive the containers"
    system.machine.ok(f"{COMPOSE} down --volumes")
    assert not system.has_volume()
    _told(f"{system.engine.name}: README in {time.monotonic() - started_at:.0f} s")


def _a_study_that_is_stopped_in_the_middle_goes_on(system: System) -> None:
    """As the README names another study: who trains gives its trial back, none is lost or counted twice."""
    night = f"ORCH_STUDY=night {COMPOSE}"
    system.machine.ok(f"{night} up --detach --scale worker=4")
    system.machine.ok(f"{night} run --rm worker {LONG_STUDY}")
    system.wait(lambda: system.states("night")["running"] == 4)
    system.machine.ok(f"{night} stop")
    stopped = system.containers("worker")
    assert [each["State"]["ExitCode"] for each in stopped] == [130] * 4
    # For this, compose starts PostgreSQL alone.
    states = system.states("night")
    assert states["running"] == 0 and states["complete"] < LONG_STUDY_TRIALS, states

    system.machine.ok(f"{night} start")
    system.wait(lambda: system.finished("night") >= LONG_STUDY_TRIALS, 1800)
    system.wait(lambda: system.states("night")["running"] == 0)
    assert system.finished("night") == LONG_STUDY_TRIALS


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


def _the_page_lists_the_study(system: System) -> None:
    """In Chromium, where it is installed; its picture is left beside the logs."""
    chromium = shutil.which("chromium")
    if chromium is None:
        _told("no Chromium here: the dashboard's page is not opened")
        return
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "chromium"
        namespace = f"/proc/{system.machine.pid}/ns/net"
        inside.write_text(f'#!/bin/sh\nexec nsenter --net={namespace} {chromium} "$@"\n')
        inside.chmod(0o755)
        address, profile = f"{ADDRESS}/dashboard", Path(folder) / "profile"
        picture = f"{system.engine.name}-{{}}.png"
        rendered(str(inside), address, profile, "mlp")
        pictured(str(inside), address, profile, FOLDER / picture.format("dashboard"))
        listing = system.machine.ok(f"curl --silent {ADDRESS}/api/studies")
        number = re.search(r'"study_id": (\d+), "study_name": "mlp"', listing)
        assert number is not None, listing
        address = f"{address}/studies/{number[1]}"
        rendered(str(inside), f"{address}/trials", profile, "Trial 4")
        pictured(str(inside), address, profile, FOLDER / picture.format("study"))


def _a_dashboard_that_dies_comes_back(system: System) -> None:
    [dashboard] = system.containers("dashboard")
    pid = dashboard["State"]["Pid"]
    system.machine.ok(f"kill -9 {pid}")
    system.wait(lambda: system.containers("dashboard")[0]["State"]["Pid"] not in (0, pid))
    system.wait(system.answers)
