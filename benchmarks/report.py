"""The report of a large study: orch report, each form as a whole process.

    python -m benchmarks.report --json

A study of trials with 10 parameters and 5 reported values each lies in the embedded PostgreSQL of a
temporary ORCH_HOME. Times are medians, with the start of the process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from benchmarks.home import orch, temporary_home
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage

MOST_SECONDS = 5.0
_FORMS = ("text", "json", "markdown", "html")
_PARAMS = {f"x{place}": FloatDistribution(0, 1) for place in range(10)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3, help="medians of this many runs")
    options = parser.parse_args()
    with temporary_home() as folder:
        orch("create", "large", "--objective", "quadratic", "--trials", str(options.trials))
        database = Database(orch("db", "url").strip())
        row = database.row("read_study", name="large")
        assert row is not None
        storage = PostgresStorage(database)
        trials = list(_trials(options.trials))
        for start in range(0, len(trials), 250):
            storage.add_trials(row["study_id"], start, trials[start : start + 250])
        database.close()
        result = {
            f"{form}_seconds": statistics.median(
                _seconds("report", "large", "--format", form, "--out", str(folder / form))
                for _ in range(options.repeats)
            )
            for form in _FORMS
        }
    result["trials"] = options.trials
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0 if result["text_seconds"] <= MOST_SECONDS else 1


def _trials(count: int) -> Iterator[FrozenTrial]:
    random = np.random.default_rng(0)
    for _ in range(count):
        params = {name: float(random.random()) for name in _PARAMS}
        value = sum((place + 1) ** 2 * (x - 0.5) ** 2 for place, x in enumerate(params.values()))
        yield create_trial(
            params=params,
            distributions=dict(_PARAMS),
            value=value,
            intermediate_values={step: value * (1 + 1 / step) for step in range(1, 6)},
        )


def _seconds(*arguments: str) -> float:
    began = time.monotonic()
    orch(*arguments)
    return round(time.monotonic() - began, 2)


if __name__ == "__main__":
    sys.exit(main())
