"""What checkpoints cost a training: the same trials with one after every epoch, and with none.

    python -m benchmarks.checkpoints --json

Each pair is a trial of a fixed configuration for each of the workers, on the embedded server of a
temporary ORCH_HOME, in turns. ``--objective mnist`` needs the real MNIST.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from benchmarks.home import orch, temporary_home

MOST_RATIO = 1.05
PARAMS = {
    "activation": '"relu"', "units": 512, "units_2": 64, "units_3": 64, "units_4": 64,
    "dropout": 0.1, "learning_rate": 0.001, "batch_size": 64,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--objective", default="mnist", choices=["mnist", "digits"])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="that train at the same time")
    options = parser.parse_args()
    with temporary_home():
        with_them, without = [], []
        for pair in range(options.pairs):
            with_them.append(_trial_seconds(options, f"with-{pair}", 0))
            without.append(_trial_seconds(options, f"without-{pair}", 10**9))
    result = {
        "objective": options.objective,
        "epochs": options.epochs,
        "pairs": options.pairs,
        "workers": options.workers,
        "with_checkpoints_seconds": [round(each, 2) for each in with_them],
        "without_seconds": [round(each, 2) for each in without],
        "ratio": round(statistics.median(with_them) / statistics.median(without), 4),
        "most_ratio": MOST_RATIO,
    }
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))
    return 0 if result["ratio"] <= MOST_RATIO else 1


def _trial_seconds(options: argparse.Namespace, study: str, between: int) -> float:
    params = [f"--param={name}={value}" for name, value in PARAMS.items()]
    orch(
        "run", options.objective, "--study", study, "--trials", str(options.workers),
        "--workers", str(options.workers),
        "--epochs", str(options.epochs), "--pruner", "none",
        "--set", f"worker.checkpoint_seconds={between}", "--set", "worker.keep_models=0", *params,
    )  # fmt: skip
    report = json.loads(orch("report", study, "--format", "json"))
    return statistics.mean(float(trial["seconds"]) for trial in report["trials"])


if __name__ == "__main__":
    sys.exit(main())
