"""The examples of plain functions: killed in the middle, they end as under plain Optuna."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from conftest import Orch
from fault_site import ended, wait_until

from orchestrator.storage.database import Database

Direction = Literal["minimize", "maximize"]
ROOT = Path(__file__).parents[2]
# Each example with the package that it needs, its direction, and parameters.
EXAMPLES: dict[str, tuple[str, Direction, dict[str, Any]]] = {
    "numpy_loop": ("numpy", "minimize", {"learning_rate": 0.002, "momentum": 0.5}),
    "partial_fit": ("sklearn", "maximize", {"alpha": 1e-3}),
    "torch_loop": ("torch", "maximize", {"units": 32, "learning_rate": 1e-3}),
    "xgboost_rounds": ("xgboost", "minimize", {"eta": 0.1, "max_depth": 3}),
    "lightgbm_rounds": ("lightgbm", "minimize", {"learning_rate": 0.1, "num_leaves": 8}),
}
OTHERS = {"kerastuner", "train"}  # tests/test_examples.py
_CHECKPOINT = """
    SELECT 1 FROM orch.checkpoint JOIN trials USING (trial_id) JOIN studies USING (study_id)
    WHERE study_name = %(name)s AND step >= 2
"""


class Site(Orch):
    """A user in the folder of the examples."""

    more: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        return {**super().environment, "PYTHONPATH": path, **self.more}


def test_every_example_of_a_function_is_here() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*EXAMPLES, *OTHERS}


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_killed_example_goes_on_and_ends_as_under_plain_optuna(
    home: Path, url: str, name: str, tmp_path: Path, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, direction, params = EXAMPLES[example]
    pytest.importorskip(package, reason=f"needs {package}")
    steps, hold = tmp_path / "steps", tmp_path / "hold"
    hold.touch()
    site = Site(home)
    site.more = {"EXAMPLE": example, "EXAMPLE_STEPS": str(steps), "EXAMPLE_HOLD": str(hold)}
    site.ok(
        "create", name, "--objective", "killed_example:objective", "--direction", direction,
        "--trials", "1", "--pruner", "none",
    )  # fmt: skip
    given = ", ".join(f"{key}={json.dumps(value)}" for key, value in params.items())
    site.ok("enqueue", name, "--params", given)
    running = site.start("resume", name, "--workers", "1")

    def is_held() -> bool:
        assert running.poll() is None, running.communicate()[1]
        is_third = steps.exists() and steps.read_text().count("\n") == 3
        return is_third and bool(Database(url).execute(_CHECKPOINT, {"name": name}))

    wait_until(is_held)
    os.kill(int(steps.read_text().split()[-1]), signal.SIGKILL)
    hold.unlink()
    error = ended(running)
    assert running.returncode == 0, error

    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    module = importlib.import_module(f"examples.{example}")
    alone = optuna.create_study(direction=direction)
    alone.enqueue_trial(params)
    alone.optimize(module.objective, n_trials=1)
    report = site.report(name)
    trial = report["trials"][-1]  # the retry
    expected = alone.trials[0]
    trained = [int(line.split()[0]) for line in steps.read_text().splitlines()]
    assert trained == [1, 2, 3, *range(3, max(expected.intermediate_values) + 1)]
    assert {int(step): value for step, value in trial["intermediate"].items()} == (
        expected.intermediate_values
    )
    assert trial["value"] == expected.value and report["retries"] == 1
