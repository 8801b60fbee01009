"""A study in a notebook: a real Jupyter kernel runs the cells."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import psutil
import pytest
from conftest import Orch
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.programs import Programs

OBJECTIVE = """
import numpy as np
import orchestrator as orch
marker = "{text}"
table = np.full(20_000, {value})

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    return (x - 2) ** 2 + table[0] * len(marker) * 0
"""
TEXT, VALUE = "a-marker-of-the-closure", 1234.56789012


class Kernel:
    """A kernel whose cells are run one by one, as somebody would."""

    def __init__(self, orch: Orch, url: str, folder: Path) -> None:
        self._environment = {**orch.environment, "ORCH_STORAGE": url, "IPYTHONDIR": str(folder)}

    def start(self) -> None:
        self.notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
        self.client = NotebookClient(self.notebook, timeout=120, kernel_name="python3")
        self.client.create_kernel_manager()
        self.client.start_new_kernel(env=self._environment)
        self.client.start_new_kernel_client()

    def run(self, source: str) -> list[dict[str, Any]]:
        """What a cell shows."""
        cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
        self.notebook.cells.append(cell)
        self.client.execute_cell(cell, len(self.notebook.cells) - 1)
        return list(cell.outputs)

    def says(self, source: str) -> str:
        """What a cell prints, and the text of its result."""
        parts = []
        for each in self.run(source):
            parts.append(each.get("text", "") or each.get("data", {}).get("text/plain", ""))
        return "".join(parts).strip()

    def fails(self, source: str) -> str:
        with pytest.raises(CellExecutionError) as raised:
            self.run(source)
        return f"{raised.value.ename}: {raised.value.evalue}"

    @property
    def process(self) -> psutil.Process:
        kernel = self.client.km
        assert kernel is not None and isinstance(kernel.provisioner, LocalProvisioner)
        return psutil.Process(kernel.provisioner.pid)

    def interrupt_when(self, holds: Callable[[], bool]) -> threading.Thread:
        """Press the stop button once something holds, while a cell runs."""

        def press() -> None:
            wait_until(holds)
            os.kill(self.process.pid, signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        return thread

    def stop(self) -> None:
        self.client._cleanup_kernel()


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def kernel(home: Path, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    made = Kernel(Orch(home), url, tmp_path_factory.mktemp("jupyter"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def cells(kernel: Kernel) -> None:
    kernel.run(OBJECTIVE.format(text=TEXT, value=VALUE))


def done(database: Database, name: str) -> int:
    rows = {row["name"]: row for row in database.rows("list_studies")}
    return int(rows[name]["finished"]) if name in rows else 0


def create(name: str, trials: int = 6, objective: str = "objective") -> str:
    return (
        f"study = orch.create_study({name!r}, objective={objective}, trials={trials}, "
        "pruner='none', sampler='random')\n"
    )


def test_a_cell_runs_a_study_shows_it_and_is_run_again(kernel: Kernel, name: str) -> None:
    shown = kernel.run(f"{create(name)}study.run(workers=2)")
    pages = [each["data"].get("text/html", "") for each in shown if "data" in each]
    assert any("<progress" in page and "6/6 trials" in page for page in pages), shown
    report = pages[-1]
    assert report.startswith("<iframe sandbox srcdoc=") and len(report.encode()) <= 200_000
    assert kernel.says("study.state, len(study.trials), study.best.value < 49") == (
        "('done', 6, True)"
    )
    again = kernel.run(f"{create(name)}study.run(workers=2)")
    assert "all 6 trials are done" in str(again)
    assert kernel.says("print(study.best_trials(1))").startswith("trial ")
    table = kernel.run("orch.list_studies()")[0]["data"]
    assert name in table["text/html"] and table["text/html"].startswith("<pre>")


def test_a_closure_never_reaches_the_storage(
    kernel: Kernel, name: str, home: Path, url: str, open_path: Path
) -> None:
    kernel.run(f"{create(name)}study.run(workers=2, progress=False)")
    assert kernel.says("study.state") == "'done'"
    open_path.chmod(0o777)  # the server's own user writes there
    file = open_path / "dump.sql"
    Programs(home, EmbeddedServer(home).data).run("pg_dump", "--dbname", url, "--file", str(file))
    dump = file.read_bytes()
    assert name.encode() in dump
    assert TEXT.encode() not in dump and TEXT.encode().hex().encode() not in dump
    assert str(VALUE)[:10].encode() not in dump
    assert np.full(2, VALUE).tobytes().hex().encode() not in dump


def test_a_changed_cell_is_named_and_can_be_accepted(kernel: Kernel, name: str) -> None:
    kernel.run(f"{create(name, 2)}study.run(workers=1, progress=False)")
    kernel.run("def objective(trial):\n    return trial.suggest_float('x', -5, 5) ** 2 + 100")
    refused = kernel.fails(create(name, 4))
    assert refused.startswith("StudyFailed") and "the objective's source differs" in refused
    taking = create(name, 4).replace(")\n", ", allow_mismatch=True)\n")
    kernel.run(f"{taking}study.run(workers=1, progress=False)")
    assert kernel.says("[trial.value >= 100 for trial in study.trials]") == (
        "[False, False, True, True]"
    )


def test_the_trials_of_zero_workers_print_into_the_cell(kernel: Kernel, name: str) -> None:
    kernel.run(
        "collected = []\n"
        "def collects(trial):\n"
        "    collected.append(trial.number); print('trial', trial.number)\n"
        "    return trial.suggest_float('x', 0, 1)"
    )
    shown = kernel.says(f"{create(name, 3, 'collects')}study.run(workers=0, progress=False); None")
    assert shown == "trial 0\ntrial 1\ntrial 2"
    assert kernel.says("collected") == "[0, 1, 2]"


def test_an_interrupted_cell_releases_its_trials(
    kernel: Kernel, name: str, database: Database
) -> None:
    kernel.run(
        "import time\n"
        "def slow(trial):\n"
        "    for step in range(1, 5):\n"
        "        time.sleep(0.1); trial.report(1.0, step)\n"
        "    return trial.suggest_float('x', 0, 1)"
    )
    pressing = kernel.interrupt_when(lambda: done(database, name) >= 1)
    stopped = kernel.fails(f"{create(name, 300, 'slow')}study.run(workers=2, progress=False)")
    pressing.join()
    assert stopped.startswith("KeyboardInterrupt")
    states = kernel.says("sorted({trial.state.name for trial in study.trials})")
    assert "RUNNING" not in states and "FAIL" not in states and "COMPLETE" in states
    assert not kernel.process.children(recursive=True)
    assert kernel.says("study.state") == "'open'"
    kernel.run("study.delete()")


def test_a_restarted_kernel_continues_its_study(
    kernel: Kernel, name: str, database: Database
) -> None:
    slow = "import time\ndef slow(trial):\n    time.sleep(0.3)\n    return trial.suggest_float('x', 0, 1)"
    kernel.run(slow)
    workers: list[psutil.Process] = []

    def kill() -> None:
        wait_until(lambda: done(database, name) >= 2)
        workers.extend(kernel.process.children(recursive=True))
        os.kill(kernel.process.pid, signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(Exception, match="died"):
        kernel.run(f"{create(name, 8, 'slow')}study.run(workers=2, progress=False)")
    killing.join()
    assert workers
    assert not psutil.wait_procs(workers, timeout=30)[1], "they leave when the kernel is gone"
    kernel.stop()
    kernel.start()
    kernel.run(f"import orchestrator as orch\n{slow}")
    kernel.run(
        f"study = orch.load_study({name!r}, objective=slow); study.run(workers=2, progress=False)"
    )
    assert kernel.says("study.state, len(study.trials)") == "('done', 8)"
    assert "FAIL" not in kernel.says("{trial.state.name for trial in study.trials}")
