"""A worker is a guest in the objective's process: it changes nothing there but what the docs name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Orch

TESTS = Path(__file__).parent.parent

# docs/howto/own-objective.md names each of them.
ALLOWED = {
    "signal SIGINT": "a handler",
    "signal SIGTERM": "a handler",
    "faulthandler": True,
    "streams": None,
    **dict.fromkeys(("descriptor 1", "descriptor 2")),
    "threads": None,
    "variable ORCH_STORAGE": None,
    "variable TF_CPP_MIN_LOG_LEVEL": "2",
    "variable OMP_NUM_THREADS": None,
    "variable TF_NUM_INTRAOP_THREADS": None,
    # INFO and above, to the worker's own output and nowhere else
    "logger orch": [20, ["logging.NullHandler", "__main__._OurLines"], [], False, False],
}  # fmt: skip


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What a snapshot has that the one before has not; loggers that nobody has set up count as none."""
    plain = [0, [], [], True, False]
    changed = {}
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if key.startswith("logger "):
            was, now = was or plain, now or plain
        if was != now:
            changed[key] = now
    return changed


def test_an_objective_sees_the_process_that_plain_optuna_gives_it(
    orch: Orch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TESTS)
    for variable in ("TF_CPP_MIN_LOG_LEVEL", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    found = {}
    for where in ("plain", "orch"):
        out = tmp_path / where
        monkeypatch.setenv("GUEST_OUT", str(out))
        if where == "plain":
            subprocess.run(
                [sys.executable, "guest.py"], env=orch.environment, check=True,
                stdin=subprocess.DEVNULL, capture_output=True,
            )  # fmt: skip
        else:
            orch.ok("run", "guest:look", "--study", name, "--trials", "3", "--workers", "1")
        found[where] = json.loads(out.read_text())
        found[where].pop("variable GUEST_OUT")
    changed = differences(found["plain"], found["orch"])
    assert changed.keys() <= ALLOWED.keys(), {
        key: (found["plain"].get(key), changed[key]) for key in changed.keys() - ALLOWED.keys()
    }
    for key, value in ALLOWED.items():
        assert value is None or changed[key] == value, key


_AS_A_LIBRARY = """
import importlib, json, pkgutil, sys, threading, time, uuid
# What we stand on; how these set themselves up is theirs.
import alembic, fasteners, jinja2, optuna, platformdirs, psutil, pydantic, rich.console, sqlalchemy
import optuna.artifacts, optuna.importance, optuna.terminator, psycopg2.extras, sklearn.ensemble
from guest import snapshot
url, name = sys.argv[1:]
engine = {"creator": lambda: psycopg2.connect(url)}
optuna.storages.RDBStorage("postgresql+psycopg2://", engine_kwargs=engine)
sklearn.ensemble.RandomForestRegressor(1).fit([[0], [1]], [0, 1])
before = snapshot()
import orchestrator
for found in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
    parts = found.name.split(".")
    if "__main__" not in parts and "cli" not in parts:
        importlib.import_module(found.name)
from orchestrator.report.render import render
from orchestrator.report.reader import summarise
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.rdb_storage import open_optuna_storage
from orchestrator.storage.schema import prepare
from orchestrator.resolve.resolve import create
from orchestrator.storage.studies import delete, open_study
from orchestrator.worker.worker import Worker, WorkerOptions
database = Database(url)
prepare(database)
for sampler in ("tpe", "qmc"):
    document = {
        "study": {"name": name, "objective": "quadratic", "trials": 25},
        "sampler": {"name": sampler},
        "worker": {"heartbeat_seconds": 0.2},
    }
    study = create(database, StudySpec.parse(document))
    Worker(url, name, WorkerOptions(uuid.uuid4())).run()
    summary = summarise(database, open_study(database, name), thorough=True)
    assert summary.states.complete, summary.states
    for form in ("text", "json", "html"):
        render(summary, form)
    storage = open_optuna_storage(url)
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == 25
    storage._backend.engine.dispose()
    delete(database, study)
database.close()
while len(threading.enumerate()) > 1:  # of ours, none stays
    time.sleep(0.05)
json.dump([before, snapshot()], sys.stdout)
"""


def test_importing_and_using_orch_changes_nothing_in_a_process(url: str, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AS_A_LIBRARY, url, name], cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    assert differences(before, after) == {
        "logger orch": [0, ["logging.NullHandler"], [], True, False]
    }
    assert done.stderr == "", "and says nothing"


@pytest.mark.parametrize("objective", ["queries_slowly", "copies"])
def test_an_objective_queries_its_own_postgresql_as_under_plain_optuna(
    orch: Orch, url: str, name: str, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERDB", url)
    orch.ok(
        "run", f"guest:{objective}", "--study", name, "--trials", "2", "--workers", "2",
        "--set", "worker.heartbeat_seconds=1", "--set", "worker.grace_seconds=6",
    )  # fmt: skip
    assert orch.report(name)["states"]["complete"] == 2
    assert orch.report(name)["retries"] == 0


_PRINTS = """
import os
before = [os.fstat(each) for each in (0, 1, 2)]
os.write(2, b"before\\n")
import tensorflow
assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ
tensorflow.config.list_physical_devices("GPU")  # an error, where there is none
os.write(2, b"after\\n")
assert [os.fstat(each) for each in (0, 1, 2)] == before
def f(trial):
    return trial.suggest_float("x", 0, 1)
"""


def test_a_command_hides_only_tensorflows_startup_messages(
    orch: Orch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prints.py").write_text(_PRINTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    done = orch("space", "prints:f")
    assert done.returncode == 0 and done.stderr == "before\nafter\n"


def test_importing_tensorflow_leaves_the_garbage_collector_unchanged() -> None:
    code = (
        "import gc; gc.disable(); from orchestrator.training.keras import configure\n"
        "configure(None); assert not gc.isenabled(); gc.enable(); configure(None); assert gc.isenabled()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
