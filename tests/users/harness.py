"""Studies of the trainings in ``trainings/``, by the installed ``orch``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from conftest import Orch
from creator import Creator
from declared import FOLDER, Training
from epochs import begun

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.worker.seeds import derive

SEED = 7
_WORKERS = ("--processes", "2")
_SECONDS = 300
_NEWEST_CHECKPOINT = """
    SELECT max(step) AS step FROM orch.checkpoint JOIN trials USING (trial_id)
    JOIN studies USING (study_id) WHERE study_name = %(name)s
"""


def keras_seed(study_seed: int, number: int = 0) -> int:
    """The seed that a trial of Keras sets before it builds its model."""
    path = [derive(study_seed, "training", number), 0, 0]
    return int(np.random.SeedSequence(path).generate_state(1)[0])


@dataclass
class Users(Orch):
    """The installed ``orch`` in the folder of a user who has only the training files."""

    creator: Creator = field(kw_only=True)
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(FOLDER.parent), **self.more}

    def __call__(self, *arguments: str, timeout: float = _SECONDS) -> Any:
        return subprocess.run(
            self.command(*arguments),
            cwd=FOLDER,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def create(
        self, training: Training, name: str, queue: list[dict[str, Any]], trials: int, data: str
    ) -> None:
        """A study whose first trials have the configurations of the queue."""
        keywords = {
            "name": name, "objective": f"kt:{training.name}:{training.target}", "data": data,
            "metric": training.metric, "epochs": training.epochs, "trials": trials, "seed": SEED,
        }  # fmt: skip
        if training.direction:
            keywords["direction"] = training.direction
        if training.needs is None:
            self.creator.create(keywords, queue, self.more)
        else:  # it chooses the backend of its process
            self._python("created.py", json.dumps(keywords), json.dumps(queue))

    def run(self, training: Training, name: str) -> dict[str, Any]:
        """The report of a study of the training, run by two workers."""
        queue = [training.params] + ([training.fails] if training.fails else [])
        data = training.data or f"{training.name}:data"
        self.create(training, name, queue, training.trials, data)
        self.ok("worker", name, *_WORKERS)
        return self.report(name)

    def run_in_python(self, training: Training, name: str) -> dict[str, Any]:
        """The same by the Python API, with the module's objects."""
        self._python("in_python.py", training.name, name, str(SEED))
        return self.report(name)

    def _python(self, script: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, str(FOLDER.parent / script), *arguments],
            cwd=FOLDER,
            env={**self.environment, "PYTHONPATH": f"{FOLDER.parent}:{FOLDER}"},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def run_and_kill(self, training: Training, name: str, log: Path) -> dict[str, Any]:
        """One trial whose worker is killed in its third epoch, after the second checkpoint."""
        self.more = {"USERS_LOG": str(log), "USERS_TRAINING": training.name}
        hold = Path(f"{log}.hold")
        hold.touch()
        self.create(training, name, [training.params], 1, "watched:data")
        worker = subprocess.Popen(
            self.command("worker", name, "--processes", "1"),  # the supervisor starts the next
            cwd=FOLDER, env=self.environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            while len(third := begun(log)) < 3 or not self._has_two_checkpoints(name):
                assert worker.poll() is None, worker.communicate()[1][-3000:]
                time.sleep(0.1)
            hold.unlink()
            os.kill(third[2]["pid"], signal.SIGKILL)
            error = worker.communicate(timeout=_SECONDS)[1]
        finally:
            worker.kill()
        assert worker.returncode == 0, error[-3000:]
        return self.report(name)

    def _has_two_checkpoints(self, name: str) -> bool:
        database = Database(EmbeddedServer(self.home).ensure_running())
        [row] = database.execute(_NEWEST_CHECKPOINT, {"name": name})
        database.close()
        return row["step"] is not None and row["step"] >= 2
