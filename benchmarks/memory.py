"""The memory of training processes beside a bare TensorFlow process that holds the data once.

    python -m benchmarks.memory --json

Two processes train ``--trials`` trials each with the objective alone. With ``--study`` two workers
of ``orch run mnist`` share ``--trials`` trials, and are looked at every second. Resident memory
counts shared pages fully in each process; the proportional set size shares them out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.home import temporary_home

MOST_RATIO = 1.2
_PROCESSES = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=10, help="that each process trains")
    parser.add_argument("--study", action="store_true", help="real workers of a study")
    parser.add_argument("--part", choices=["bare", "worker"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        (_bare if options.part == "bare" else _worker)(options.trials)
        return 0
    with temporary_home():
        [bare] = _measure("bare", 1, options.trials)
        workers = (
            _study(options.trials)
            if options.study
            else _measure("worker", _PROCESSES, options.trials)
        )
    largest = max(each["rss_mib"] for each in workers)
    result = {
        "trials": options.trials,
        "bare": bare,
        "workers": workers,
        "ratio": round(largest / bare["rss_mib"], 3),
        "most_ratio": MOST_RATIO,
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0 if result["ratio"] <= MOST_RATIO else 1


def _measure(part: str, processes: int, trials: int) -> list[dict[str, Any]]:
    """Each process prints a line when it is ready to be looked at, and stays until it is told."""
    command = [sys.executable, "-m", "benchmarks.memory", "--part", part, "--trials", str(trials)]
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(processes)
    ]
    first = [json.loads(process.stdout.readline()) for process in running if process.stdout]
    found = [_memory(process.pid) | facts for process, facts in zip(running, first, strict=True)]
    for process in running:
        process.communicate("\n")
    return found


def _study(trials: int) -> list[dict[str, Any]]:
    """The workers of a study, looked at as long as it runs."""
    command = [sys.executable, "-m", "orchestrator", "run", "mnist", "--study", "memory"]
    command += ["--trials", str(trials), "--workers", str(_PROCESSES), "--epochs", "1"]
    running = subprocess.Popen([*command, "--pruner", "none"], stdout=subprocess.DEVNULL)
    seen: dict[int, list[dict[str, Any]]] = {}
    while running.poll() is None:
        for child in psutil.Process(running.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError, IndexError, KeyError):
                if "orchestrator.worker" in child.cmdline():
                    seen.setdefault(child.pid, []).append(_memory(child.pid))
        time.sleep(1.0)
    if running.returncode:
        raise SystemExit(f"orch run ended with exit code {running.returncode}")
    return [
        {
            "rss_mib": max(each["rss_mib"] for each in looks),
            "pss_mib": max(each["pss_mib"] for each in looks),
            "rss_mib_at_a_fifth": looks[len(looks) // 5]["rss_mib"],
            "rss_mib_at_the_end": looks[-2 if len(looks) > 1 else -1]["rss_mib"],
        }
        for looks in seen.values()
    ]


def _memory(pid: int) -> dict[str, Any]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"rss_mib": kib["Rss"] // 1024, "pss_mib": kib["Pss"] // 1024}


def _bare(trials: int) -> None:
    import tensorflow as tf  # noqa: F401

    from orchestrator.training.data import load

    held = load("mnist").x_train
    load.cache_clear()
    print(json.dumps({"examples": len(held)}), flush=True)
    sys.stdin.readline()


def _worker(trials: int) -> None:
    from orchestrator.training.base import Settings
    from orchestrator.training.builtin.mnist import Mnist

    objective = Mnist(Settings(epochs=1))
    objective.check()
    objective.prepare(threads=1)
    grown = []
    for number in range(trials):
        objective(_Trial(number))
        grown.append(_memory(os.getpid())["rss_mib"])
    print(json.dumps({"rss_after_trials_mib": grown[:: max(1, trials // 20)]}), flush=True)
    sys.stdin.readline()


class _Trial:
    """What the objective asks of a trial; nothing is recorded."""

    steps: int | None = None

    def __init__(self, number: int) -> None:
        self.number = self.seed = number
        self.params: dict[str, Any] = {
            "activation": "relu", "units": 32 * (number % 4 + 1), "units_2": 8 * (number % 8 + 1),
            "units_3": 32, "units_4": 16, "dropout": 0.1, "learning_rate": 0.001,
            "batch_size": 256,
        }  # fmt: skip

    def report(self, value: float, step: int) -> None: ...

    def log(self, metrics: Any, step: int) -> None: ...

    def should_prune(self) -> bool:
        return False

    def checkpoint(self, step: int, capture: Any) -> None:
        capture()

    def offer_model(self, value: float, save: Any) -> None: ...

    def restore(self) -> None: ...

    def set_user_attr(self, key: str, value: Any) -> None: ...


if __name__ == "__main__":
    sys.exit(main())
