"""Taking a study over: orch import beside Optuna's own copy_study.

    python -m benchmarks.imports --json

A SQLite storage has a study of trials with 7 parameters, 8 reported values and 2 user attributes.
copy_study and the import write it, in turns, into one embedded PostgreSQL of a temporary ORCH_HOME;
both times have the reading too, and are medians. The command's time has the start of its process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from benchmarks.home import orch, temporary_home
from orchestrator.importers.imported import GoingOn, store
from orchestrator.importers.optuna import read_optuna
from orchestrator.storage.database import Database

MOST_OF_COPY = 0.25
_STEPS = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=1, help="medians of this many runs")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with temporary_home() as folder:
        url = orch("db", "url").strip()
        orch("db", "init")
        result = _measure(_make_study(folder, options.trials), url, options.repeats)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0 if result["import_to_copy"] <= MOST_OF_COPY else 1


def _make_study(folder: Path, trials: int) -> str:
    """The URL of a storage with the study ``source``."""
    url = f"sqlite:///{folder / 'source.db'}"
    study = optuna.create_study(storage=url, study_name="source")
    study.add_trials([_trial(number) for number in range(trials)])
    return url


def _trial(number: int) -> FrozenTrial:
    params = {f"x{index}": (number * 7 + index) % 97 / 97 for index in range(7)}
    total = sum(params.values())
    start = datetime(2026, 1, 1) + timedelta(seconds=number)
    return optuna.trial.FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE,
        value=total,
        datetime_start=start,
        datetime_complete=start + timedelta(seconds=0.9),
        params=params,
        distributions=dict.fromkeys(params, FloatDistribution(0.0, 1.0)),
        user_attrs={"host": "a", "seconds": 0.9},
        system_attrs={},
        intermediate_values={step: total / step for step in range(1, _STEPS + 1)},
    )


def _measure(source: str, url: str, repeats: int) -> dict[str, Any]:
    database = Database(url)
    times: dict[str, list[float]] = {"copy_study": [], "import": [], "command": []}
    for turn in range(repeats):
        asked = time.perf_counter()
        optuna.copy_study(
            from_study_name="source",
            from_storage=source,
            to_storage=url.replace("://", "+psycopg2://", 1),
            to_study_name=f"copy-{turn}",
        )
        times["copy_study"].append(time.perf_counter() - asked)
        asked = time.perf_counter()
        store(database, f"import-{turn}", read_optuna(source, None), GoingOn())
        times["import"].append(time.perf_counter() - asked)
        asked = time.perf_counter()
        orch("import", "optuna", source, f"command-{turn}")
        times["command"].append(time.perf_counter() - asked)
    database.close()
    medians = {f"{name}_s": round(statistics.median(each), 2) for name, each in times.items()}
    ratio = medians["import_s"] / medians["copy_study_s"]
    return medians | {"import_to_copy": round(ratio, 3)}


if __name__ == "__main__":
    sys.exit(main())
