"""Trainings as users publish them: by their own tools first, then by orch."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Orch
from creator import Creator
from declared import FOLDER, Training, names
from harness import SEED, Users, keras_seed

_SECONDS = 1500
# One of each kind: arrays of a table, nests, a fit of one's own, a dataset, callbacks' state.
IN_EVERY_TEST_RUN = {
    "dict_inputs_outputs",
    "early_stopping",
    "fine_tuning",
    "tf_dataset",
    "vae",
}
KILLED_IN_EVERY_TEST_RUN = {"early_stopping"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A parameter ``training`` is each of them; most are left to ``make users``."""
    if "training" not in metafunc.fixturenames:
        return
    chosen, always = [Training.of(name) for name in names()], IN_EVERY_TEST_RUN
    if metafunc.definition.get_closest_marker("kills") is not None:
        chosen = [each for each in chosen if each.checkpoints]
        always = KILLED_IN_EVERY_TEST_RUN
    metafunc.parametrize("training", [_parameter(each, always) for each in chosen])


def _parameter(training: Training, always: Container[str]) -> Any:
    # With --dist loadgroup a training's tests share the one run of its study.
    marks = [pytest.mark.xdist_group(training.name)]
    if training.name not in always:
        marks.append(pytest.mark.users)
    if training.needs is not None:
        missing = importlib.util.find_spec(training.needs) is None
        marks.append(pytest.mark.skipif(missing, reason=f"{training.needs} is not installed"))
    return pytest.param(training, id=training.name, marks=marks)


@pytest.fixture(scope="session")
def creator(home: Path) -> Iterator[Creator]:
    made = Creator(Orch(home).environment)
    yield made
    made.close()


@pytest.fixture
def users(orch: Orch, creator: Creator) -> Users:
    return Users(orch.home, creator=creator)


@pytest.fixture(scope="session")
def peer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Training], dict[str, Any]]]:
    """What a training gives without orch. All that this session needs run once, in one process.

    A test waits for its own training alone, so the others run while tests go on.
    """
    named = {
        item.callspec.params["training"].name
        for item in request.session.items
        if "training" in getattr(getattr(item, "callspec", None), "params", {})
    }
    folder = tmp_path_factory.getbasetemp() / "peers"
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent.parent / "peers"  # of all processes of the session
    folder.mkdir(exist_ok=True)
    peers = Peers(folder, named)
    yield peers.result
    peers.wait()


class Peers:
    """The process that trains without orch, of whichever of the session's processes started it.

    Args:
        folder: for its results.
        names: what it trains, and in which order: theirs.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._names = sorted(name for name in names if Training.of(name).needs is None)
        self._started: list[subprocess.Popen[bytes]] = []

    def result(self, training: Training) -> dict[str, Any]:
        """Wait for the training's result."""
        file, ends = self._folder / f"{training.name}.json", time.monotonic() + _SECONDS
        while not file.exists():
            assert time.monotonic() < ends, f"{training.name} takes more than {_SECONDS} s"
            self._start(training)
            time.sleep(0.1)
        found: dict[str, Any] = json.loads(file.read_text())
        assert "error" not in found, found["error"]
        return found

    def wait(self) -> None:
        """Wait for the processes that this one started."""
        for each in self._started:
            each.wait(_SECONDS)

    def _start(self, training: Training) -> None:
        """Start a process for this training and those that wait, unless there is one."""
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # the process inherits the lock, and has it until it ends
                return
            if (self._folder / f"{training.name}.json").exists():
                return
            log = self._folder / f"{training.name}.txt"
            assert not log.exists(), f"it ended early: {log.read_text()[-2000:]}"
            # One that needs a library chooses the backend of its process.
            alone = training.needs is not None
            names = [training.name] if alone else [training.name, *self._names]
            waiting = [each for each in dict.fromkeys(names) if not self._is_done(each)]
            self._started.append(self._popen(waiting, log, training.needs, lock.fileno()))

    def _is_done(self, name: str) -> bool:
        return (self._folder / f"{name}.json").exists()

    def _popen(
        self, names: list[str], log: Path, needs: str | None, lock: int
    ) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                [
                    sys.executable,
                    str(FOLDER.parent / "peer.py"),
                    str(self._folder),
                    str(keras_seed(SEED)),
                    *names,
                ],
                cwd=FOLDER,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{FOLDER.parent}:{FOLDER}",
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    # A script sets it before it imports Keras; peer.py has imported Keras by then.
                    **({"KERAS_BACKEND": needs} if needs in {"jax", "torch"} else {}),
                },
                stdout=output,
                stderr=output,
                pass_fds=[lock],
            )
