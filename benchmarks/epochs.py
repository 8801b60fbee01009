"""An epoch of the fast fit beside one of Keras's own fit, and the accuracy that both reach.

    python -m benchmarks.epochs --json

Seconds are of an epoch with its validation, on MNIST with the article's network (50,000 examples to
train, 10,000 to validate); the first epoch, in which the graphs are made, stands by itself. Both
fits run in processes of their own, in turns: alone, Keras's as it is by default and the fast one
with the threads that a worker would give it; and as workers of a study, one process a core with one
thread each, to which no goal applies. ``--seeds`` trains both from so many seeds, on fewer
examples, and compares the accuracies.

A convolutional network on a fifth of MNIST, a regression table and an LSTM come after it, alone and
at batch 32; no goal applies to them (``benchmarks/models.py``).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from itertools import product
from typing import Any

from benchmarks.models import CASES
from orchestrator.resolve.objective import useful_threads
from orchestrator.training import fast_fit
from orchestrator.training import keras as training
from orchestrator.training.base import Settings
from orchestrator.training.builtin.mnist import Mnist
from orchestrator.worker.process import cores

# As issue 6 sets them: the fast fit's epoch in units of Keras's default.
MOST_RATIO = {32: 0.4, 128: 0.45}
FITS = ("fast", "keras")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", choices=CASES, action="append", help="default: all")
    parser.add_argument("--batch", type=int, action="append", help="default: 32; of mlp 128 too")
    parser.add_argument("--epochs", type=int, default=5, help="timed; 1: none are")
    parser.add_argument(
        "--processes", type=int, action="append", help="default: 1; of mlp all cores too"
    )
    parser.add_argument("--seeds", type=int, default=0, help="trainings of each fit to compare")
    parser.add_argument("--examples", type=int, default=10_000, help="of those trainings")
    parser.add_argument("--accuracy-epochs", type=int, default=4, help="and their epochs")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(_part(json.loads(options.part))))
        return 0
    result: dict[str, Any] = {"cores": cores(), "epochs": []}
    for model in options.model or CASES:
        batches = options.batch or ([32, 128] if model == "mlp" else [32])
        processes = options.processes or sorted({1, cores()} if model == "mlp" else {1})
        for batch, count in product(batches, processes if options.epochs > 1 else ()):
            result["epochs"].append(_times(model, batch, count, options.epochs))
    if options.seeds:
        result["accuracy"] = [_accuracies(batch, options) for batch in options.batch or [32, 128]]
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    goals = [each for each in result["epochs"] if "most_ratio" in each]
    return 0 if all(each["ratio"] <= each["most_ratio"] for each in goals) else 1


def _times(model: str, batch: int, processes: int, epochs: int) -> dict[str, Any]:
    job = {"model": model, "batch": batch, "epochs": epochs, "seeds": [0], "examples": None}
    alone = processes == 1
    threads = {"fast": _worker_threads(model) if alone else 1, "keras": None if alone else 1}
    has_goal = model == "mlp" and alone and batch in MOST_RATIO
    seconds: dict[str, list[list[float]]] = {}
    for fit in FITS:
        parts = _run_parts([{**job, "fit": fit, "threads": threads[fit]}] * processes)
        seconds[fit] = [part["seconds"] for part in parts]
    later = {fit: statistics.median(s for each in seconds[fit] for s in each[1:]) for fit in FITS}
    first = {fit: statistics.median(each[0] for each in seconds[fit]) for fit in FITS}
    return {
        "model": model,
        "batch": batch,
        "processes": processes,
        **{f"{fit}_threads": threads[fit] for fit in FITS},
        "fast_seconds": round(later["fast"], 3),
        "keras_seconds": round(later["keras"], 3),
        "ratio": round(later["fast"] / later["keras"], 3),
        **({"most_ratio": MOST_RATIO[batch]} if has_goal else {}),
        "fast_first_epoch_seconds": round(first["fast"], 3),
        "keras_first_epoch_seconds": round(first["keras"], 3),
    }


def _worker_threads(model: str) -> int | None:
    """As a worker alone would have them."""
    if model != "mlp":
        return cores()
    objective = Mnist(Settings())
    return useful_threads(objective, objective.space(), cores())


def _accuracies(batch: int, options: argparse.Namespace) -> dict[str, Any]:
    job = {
        "model": "mlp",
        "batch": batch,
        "threads": _worker_threads("mlp"),
        "epochs": options.accuracy_epochs,
        "seeds": list(range(options.seeds)),
        "examples": options.examples,
    }
    parts = _run_parts([{**job, "fit": fit} for fit in FITS])
    both = {fit: part["accuracies"] for fit, part in zip(FITS, parts, strict=True)}
    differences = [ours - theirs for ours, theirs in zip(*both.values(), strict=True)]
    return {
        "batch": batch,
        "seeds": options.seeds,
        "examples": options.examples,
        "epochs": options.accuracy_epochs,
        **{f"{fit}_{name}": value for fit in FITS for name, value in _mean(both[fit]).items()},
        **{f"difference_{name}": value for name, value in _mean(differences).items()},
    }


def _mean(values: list[float]) -> dict[str, float]:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"mean": round(statistics.mean(values), 5), "standard_error": round(error, 5)}


def _run_parts(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the jobs at the same time, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.epochs", "--part"]
    running = [
        subprocess.Popen(
            [*command, json.dumps(job)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for job in jobs
    ]
    outputs = [process.communicate()[0] for process in running]
    failed = next((process for process in running if process.returncode), None)
    if failed is not None:
        raise SystemExit(f"a part of the benchmark ended with exit code {failed.returncode}")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _part(job: dict[str, Any]) -> dict[str, Any]:
    """Train one fit from each seed. Returns each epoch's seconds and each last accuracy."""
    small_network = job["fit"] == "fast" and job["model"] == "mlp"
    training.configure(job["threads"], small_network)
    import keras

    case = CASES[job["model"]]()
    split = case.split
    examples = job["examples"] or len(split.x)
    x, y = split.x[:examples], split.y[:examples]
    seconds: list[float] = []
    accuracies = []
    for seed in job["seeds"]:
        keras.utils.set_random_seed(seed)
        model = case.build()
        clock = _clock(seconds)
        history = _fit({**job, "seed": seed}, model, x, y, split, clock)
        accuracies.extend(history.history.get("val_accuracy", [])[-1:])
        keras.backend.clear_session()
    return {"seconds": seconds, "accuracies": accuracies}


def _fit(job: dict[str, Any], model: Any, x: Any, y: Any, split: Any, clock: Any) -> Any:
    options = {
        "epochs": job["epochs"],
        "validation_data": split.validation_data,
        "verbose": 0,
        "callbacks": [clock],
    }
    if job["fit"] == "fast":
        options |= {"x": x, "y": y, "batch_size": job["batch"], "seeds": (job["seed"],)}
        return fast_fit.fit(model, **options)
    return model.fit(x, y, batch_size=job["batch"], **options)


def _clock(seconds: list[float]) -> Any:
    import keras

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            self.at = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            now = time.perf_counter()
            seconds.append(now - self.at)
            self.at = now

    return Clock()


if __name__ == "__main__":
    sys.exit(main())
