"""A short chaos run: every kind of fault, no promise broken. ``make chaos`` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("WitnessedQuadratic", ["--kills", "10", "--restarts", "4", "--cuts", "3",
                                "--partitions", "2", "--trials", "30"]),
        ("WitnessedDigits", ["--kills", "2", "--restarts", "1", "--cuts", "1",
                             "--partitions", "1", "--trials", "4", "--steps", "3",
                             "--machines", "2", "--processes", "1"]),
    ],
)  # fmt: skip
def test_a_chaos_run_ends_with_zero_violations(objective: str, options: list[str]) -> None:
    script = Path(__file__).parent / "run.py"
    done = subprocess.run(
        [sys.executable, str(script), "--objective", objective, "--limit", "400", *options],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["violations"] == 0, result
    lost = sum(count for fault, count in result["faults"].items() if fault.startswith("kill"))
    # A killed machine may lose each of its processes' last epoch, a partition too.
    assert result["epochs_trained_twice"] <= 4 * (lost + result["faults"]["partition"])
