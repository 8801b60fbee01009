"""One of the examples, whose steps are noted and whose process can be killed after a checkpoint.

The environment names it (``EXAMPLE``), the file of its steps (``EXAMPLE_STEPS``), and a file that
makes it wait after its third step for as long as it exists (``EXAMPLE_HOLD``).
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

import orchestrator as orch

_example = importlib.import_module(f"examples.{os.environ['EXAMPLE']}")
_steps, _hold = Path(os.environ["EXAMPLE_STEPS"]), Path(os.environ["EXAMPLE_HOLD"])
_checkpoint = orch.checkpoint


def objective(trial: optuna.Trial) -> Any:
    """The example's own, unchanged."""
    return _example.objective(trial)


def _watched(trial: object, step: int, state: Mapping[str, Any]) -> None:
    with _steps.open("a") as file:
        file.write(f"{step} {os.getpid()}\n")
    while step == 3 and _hold.exists():
        time.sleep(0.05)
    _checkpoint(trial, step, state)


orch.checkpoint = _watched
