"""The database's share of a trial: orch beside Optuna's own RDBStorage.

    python -m benchmarks.storage --json

A trial draws 7 parameters and makes 8 reports, each followed by should_prune, under Hyperband; the
objective does no work. All run on one embedded PostgreSQL of a temporary ORCH_HOME, in turns. A
time is that from the end of the study's first trial (a process's first trial loads libraries) to
the end of its last one, by the record, for each trial. Then, with the random sampler: the time
per trial in a study of 100 and of 10,000 finished trials, and how long a fresh worker takes from
its first question to its first trial in the latter. And a flush to this disk, for what durability
costs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.home import orch, temporary_home

LEAST_RATIO, MOST_GROWTH, MOST_JOIN_SECONDS = 12.0, 1.5, 2.0
_STEPS = 8
_BIG, _TURNS = 10_000, 5


on_start: Callable[[], None] | None = None  # called with each trial, where it is measured


def objective(trial: Any) -> float:
    """Seven parameters, eight reports, no work."""
    import optuna

    if on_start is not None:
        on_start()
    total = sum(trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(7))
    for step in range(1, _STEPS + 1):
        trial.report(total / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(total)


def main() -> int:
    options = _options()
    with temporary_home() as folder:
        url = orch("db", "url").strip()
        orch("db", "init")
        result: dict[str, Any] = {"fsync_ms": round(fsync_ms(folder), 3)}
        for sampler in options.samplers:
            result[sampler] = _compare(sampler, options, url)
        if options.big:
            result["flat"] = _flat(url, options.trials[0], options.big)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0 if _goals_are_met(result) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--samplers", nargs="*", default=["random"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--trials", nargs="+", type=int, default=[500])
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many runs")
    parser.add_argument("--rdb-trials", type=int, default=80)
    parser.add_argument("--big", type=int, default=_BIG, help="trials of the big study; 0: none")
    return parser.parse_args()


def _goals_are_met(result: dict[str, Any]) -> bool:
    """With the random sampler, by the first number of trials; the rest is to look at."""
    random, flat = result.get("random", {}), result.get("flat")
    first: dict[str, float] = next(iter(random.values()), {})
    fast_enough = all(
        value >= LEAST_RATIO for name, value in first.items() if name.startswith("rdb_to")
    )
    flat_enough = flat is None or (
        flat["growth"] <= MOST_GROWTH and flat["join_seconds"] < MOST_JOIN_SECONDS
    )
    return fast_enough and flat_enough


def _compare(sampler: str, options: argparse.Namespace, url: str) -> dict[str, dict[str, float]]:
    """By number of trials, milliseconds per trial and their ratios."""
    found = {}
    for trials in options.trials:
        # In turns, so that a slow moment of the machine meets both.
        turns = [
            [_rdb(sampler, count, options.rdb_trials, url, turn) for count in options.workers]
            + [_ours(sampler, count, trials, url, turn) for count in options.workers]
            for turn in range(options.repeats)
        ]
        medians = list(map(statistics.median, zip(*turns, strict=True)))
        theirs, ours = medians[: len(options.workers)], medians[len(options.workers) :]
        times: dict[str, float] = {}
        for count, rdb, orch_ms in zip(options.workers, theirs, ours, strict=True):
            times |= {
                f"orch_{count}_ms": orch_ms,
                f"rdb_{count}_ms": rdb,
                f"rdb_to_orch_{count}": rdb / orch_ms,
            }
        found[str(trials)] = {name: round(value, 3) for name, value in times.items()}
    return found


def _study(sampler: str, storage: Any = None, name: str | None = None) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {
        "random": optuna.samplers.RandomSampler(),
        "tpe": optuna.samplers.TPESampler(constant_liar=True),
    }
    return optuna.create_study(
        sampler=samplers[sampler],
        pruner=optuna.pruners.HyperbandPruner(max_resource=_STEPS),
        storage=storage,
        study_name=name,
        load_if_exists=True,
    )


def _rdb(sampler: str, workers: int, trials: int, url: str, turn: int) -> float:
    name = f"rdb-{sampler}-{workers}-{turn}"
    address = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    _study(sampler, address, name)
    context = multiprocessing.get_context("spawn")
    share = trials // workers
    processes = [
        context.Process(target=_rdb_worker, args=(sampler, address, name, share))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return _ms_per_trial(url, name)


def _rdb_worker(sampler: str, address: str, name: str, trials: int) -> None:
    _study(sampler, address, name).optimize(objective, n_trials=trials)


def _ours(sampler: str, workers: int, trials: int, url: str, turn: int) -> float:
    name = f"orch-{sampler}-{workers}-{trials}-{turn}"
    orch(
        "run", "benchmarks.storage:objective", "--study", name, "--trials", str(trials),
        "--workers", str(workers), "--sampler", sampler, "--epochs", str(_STEPS),
    )  # fmt: skip
    return _ms_per_trial(url, name)


def _ms_per_trial(url: str, name: str) -> float:
    from orchestrator.storage.database import Database
    from orchestrator.storage.postgres_storage import PostgresStorage

    database = Database(url)
    storage = PostgresStorage(database)
    trials = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete)
    database.close()
    return (ends[-1] - ends[0]).total_seconds() / (len(ends) - 1) * 1000


def _flat(url: str, trials: int, big: int) -> dict[str, float]:
    """Time per trial and time to join, in a small and in a big study, in turns."""
    sizes = (100, big)
    for size in sizes:
        name = f"flat-{size}"
        orch(
            "create", name, "--objective", "benchmarks.storage:objective", "--sampler", "random",
            "--epochs", str(_STEPS), "--trials", str(size + _TURNS * trials),
        )  # fmt: skip
        _fill(url, name, size)
    runs = [[_work(url, f"flat-{size}", trials) for size in sizes] for _ in range(_TURNS)]
    small, large = (statistics.median(run[place][0] for run in runs) for place in (0, 1))
    return {
        "ms_at_100": round(small, 3),
        f"ms_at_{big}": round(large, 3),
        "growth": round(large / small, 3),
        "join_seconds": round(statistics.median(run[1][1] for run in runs), 3),
    }


def _fill(url: str, name: str, finished: int) -> None:
    """Give the study finished trials, as they are after a run."""
    from orchestrator.storage.database import Database
    from orchestrator.storage.postgres_storage import PostgresStorage

    study = _study("random")
    study.optimize(objective, n_trials=100)
    made = study.trials
    database = Database(url)
    storage = PostgresStorage(database)
    study_id = storage.get_study_id_from_name(name)
    database.execute("SET synchronous_commit = off")
    for number in range(finished):
        storage.create_new_trial(study_id, made[number % 100])
    database.close()


def _work(url: str, name: str, trials: int) -> tuple[float, float]:
    """One worker in this process.

    Returns:
        Milliseconds per trial, and seconds from its first question to its first trial.
    """
    # As the worker imports it: this one is __main__.
    imported: Any = importlib.import_module("benchmarks.storage")
    from orchestrator.worker.worker import Worker, WorkerOptions

    began: list[float] = []

    def note() -> None:
        began.append(time.perf_counter())
        if len(began) > trials:
            worker.leave()

    imported.on_start = note
    asked = time.perf_counter()
    worker = Worker(url, name, WorkerOptions(uuid.uuid4()))
    worker.run()
    return (began[-1] - began[0]) / (len(began) - 1) * 1000, began[0] - asked


def fsync_ms(folder: Path) -> float:
    """A flush to the disk of this folder, the median of 100, in milliseconds."""
    times = []
    with (folder / "probe").open("wb") as file:
        for _ in range(100):
            file.write(bytes(8192))
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
