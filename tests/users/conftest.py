"""Trainings as users publish them: by their own tools first, then by orch."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Container, Iterator
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
    """What a training gives without orch. All that this session needs run once, in one process."""
    named = {
        item.callspec.params["training"].name
        for item in request.session.items
        if "training" in getattr(getattr(item, "callspec", None), "params", {})
    }
    folder = tmp_path_factory.getbasetemp() / "peers"
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent.parent / "peers"  # of all processes of the session
    folder.mkdir(exist_ok=True)

    def result(training: Training) -> dict[str, Any]:
        file = folder / f"{training.name}.json"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                of_its_own = training.needs is not None  # it chooses the backend of its process
                run_peers(folder, {training.name} if of_its_own else named | {training.name})
        found: dict[str, Any] = json.loads(file.read_text())
        assert "error" not in found, found["error"]
        return found

    yield result


def run_peers(folder: Path, chosen: set[str]) -> None:
    """Train them one after the other in one process."""
    waiting = sorted(name for name in chosen if not (folder / f"{name}.json").exists())
    if len(waiting) > 1:
        waiting = [name for name in waiting if Training.of(name).needs is None]
    backends = {Training.of(name).needs for name in waiting} & {"jax", "torch"}
    done = subprocess.run(
        [
            sys.executable,
            str(FOLDER.parent / "peer.py"),
            str(folder),
            str(keras_seed(SEED)),
            *waiting,
        ],
        cwd=FOLDER,
        env={
            **os.environ,
            "PYTHONPATH": f"{FOLDER.parent}:{FOLDER}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # A script sets it before it imports Keras; peer.py has imported Keras by then.
            **({"KERAS_BACKEND": str(backends.pop())} if backends else {}),
        },
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
