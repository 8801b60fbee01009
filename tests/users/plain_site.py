"""Studies of trainings without Keras, and the same trainings without orch."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from conftest import Orch
from fault_site import ended, wait_until
from harness import SEED
from plain import FOLDER, ROOT, Plain

import orchestrator as orch
from orchestrator.storage.database import Database
from orchestrator.worker.seeds import derive

_NEWEST_CHECKPOINT = """
    SELECT max(step) AS step FROM orch.checkpoint JOIN trials USING (trial_id)
    JOIN studies USING (study_id) WHERE study_name = %(name)s
"""


@dataclass(frozen=True)
class Result:
    """What came of a trial.

    Attributes:
        value: of the trial.
        intermediate: by step.
    """

    value: float
    intermediate: dict[int, float]


@dataclass
class PlainSite(Orch):
    """A user who has the training files, and a folder for what they make."""

    folder: Path = Path()
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": f"{ROOT}:{FOLDER}", **self.more}

    def without_orch(self, training: Plain) -> Result:
        """By plain Optuna, or the command alone."""
        if training.metric:
            return self._alone(training)
        script = [sys.executable, str(FOLDER / "plain_peer.py")]
        params = json.dumps(training.params)
        lines = self._lines([*script, training.module, training.direction, params], {})
        found, value, intermediate = json.loads(lines[-1])
        assert found == training.params, f"the table does not have all parameters: {found}"
        return Result(value, {int(step): each for step, each in intermediate.items()})

    def run(self, training: Plain, name: str) -> Result:
        """The trial of the training's own parameters, by two workers that run two more."""
        self._create(training, name, training.module, 3)
        self.ok("worker", name, "--processes", "2")
        report = self.report(name)
        assert report["states"]["complete"] == 3 and report["retries"] == 0
        return _result(report["trials"][0], training)

    def run_and_kill(self, training: Plain, name: str, second: int) -> Result:
        """The only trial, whose worker is killed when its second step is stored."""
        hold = self.folder / "hold"
        hold.touch()
        self.more = {"USERS_HOLD": str(hold), "USERS_FUNCTION": training.module}
        self._create(training, name, "held", 1)
        shell = self.start("worker", name)
        try:
            wait_until(lambda: self._is_held(training, hold, shell))
            wait_until(lambda: not training.checkpoints or self._newest(name) == second)
            [worker] = psutil.Process(shell.pid).children()
            worker.kill()
            hold.unlink()
            error = ended(shell)
        finally:
            shell.kill()
        assert shell.returncode == 0, error
        report = self.report(name)
        assert report["retries"] == 1 and report["trials"][1]["retry_of"] == 0
        return _result(report["trials"][1], training)

    def trained(self, name: str, number: int) -> list[int]:
        """The steps that an attempt has trained, as it printed them."""
        assert self.storage is not None
        lines = orch.load_study(name, storage=self.storage).logs(number).splitlines()
        return [json.loads(line)["step"] for line in lines if line.startswith("{")]

    def _create(self, training: Plain, name: str, function: str, trials: int) -> None:
        keywords: dict[str, Any] = {
            "name": name, "direction": training.direction, "trials": trials, "seed": SEED
        }  # fmt: skip
        if training.metric:
            keywords |= {
                "objective": training.command(self._program(training)),
                "metric": training.metric,
                "space": {
                    key: {"float": [value / 2, value * 2]} for key, value in training.params.items()
                },
            }
        else:
            keywords["objective"] = f"{function}:objective"
        script = [sys.executable, str(FOLDER / "created.py")]
        self._lines([*script, json.dumps(keywords), json.dumps([training.params])], {})

    def _alone(self, training: Plain) -> Result:
        checkpoints = self.folder / "checkpoints"
        checkpoints.mkdir()
        texts = {key: str(value) for key, value in training.params.items()}
        command = [each.format(**texts) for each in training.command(self._program(training))]
        variables = {f"ORCH_PARAM_{key.upper()}": text for key, text in texts.items()}
        variables |= {
            "ORCH_SEED": str(derive(SEED, "training", 0)), "ORCH_CHECKPOINT_DIR": str(checkpoints)
        }  # fmt: skip
        lines = [json.loads(line) for line in self._lines(command, variables)]
        steps = {line["step"]: line[training.metric] for line in lines}
        return Result(lines[-1][training.metric], steps)

    def _program(self, training: Plain) -> Path:
        """The training's file; of a language that is compiled, the program."""
        if training.path.suffix != ".rs":
            return training.path
        program = self.folder / training.path.stem
        if not program.exists():
            source = str(training.path)
            subprocess.run(["rustc", "-O", "-o", str(program), source], check=True)
        return program

    def _lines(self, command: list[str], variables: dict[str, str]) -> list[str]:
        done = subprocess.run(
            command, env={**self.environment, **variables}, cwd=self.folder, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (shlex.join(command), done.stderr[-3000:])
        return done.stdout.splitlines()

    def _is_held(self, training: Plain, hold: Path, shell: subprocess.Popen[str]) -> bool:
        """Whether a function waits in its third step. A command waits in its second."""
        assert shell.poll() is None, shell.communicate()
        return bool(training.metric or hold.read_text())

    def _newest(self, name: str) -> int | None:
        """The step of the newest checkpoint."""
        assert self.storage is not None
        database = Database(self.storage)
        [row] = database.execute(_NEWEST_CHECKPOINT, {"name": name})
        database.close()
        return row["step"]


def _result(trial: dict[str, Any], training: Plain) -> Result:
    assert trial["state"] == "COMPLETE" and trial["params"] == training.params
    steps = {int(step): value for step, value in trial["intermediate"].items()}
    return Result(trial["value"], steps)
