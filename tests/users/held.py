"""A user's function whose third step waits, while a file exists, to be killed.

The environment names the function's module (``USERS_FUNCTION``) and the file (``USERS_HOLD``).
It writes "held" into it. Each step is printed as a line of JSON, as a command does.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import optuna

_function = importlib.import_module(os.environ["USERS_FUNCTION"])
_hold = Path(os.environ["USERS_HOLD"])


def objective(trial: optuna.Trial) -> Any:
    """The user's own, unchanged."""
    report, counted = trial.report, itertools.count(1)

    def watched(value: float, step: int) -> None:
        print(json.dumps({"step": step}))
        if next(counted) == 3 and _hold.exists():
            _hold.write_text("held")
            while _hold.exists():
                time.sleep(0.05)
        report(value, step)

    trial.report = watched  # type: ignore[method-assign]
    return _function.objective(trial)
