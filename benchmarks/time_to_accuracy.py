"""How long until the good model: KerasTuner's search, and ``orch run`` with two workers.

    python -m benchmarks.time_to_accuracy --json

Each seed: KerasTuner searches the article's space (examples/kerastuner.py) with Keras's default fit
and all cores, and ends with its best validation accuracy. Then ``orch run`` searches the same space
on the same split until it has a model of that accuracy, and on until it has a better one (which it
then also has at equal time) or KerasTuner's time is over. Clocks run from the command: imports, a
new embedded server and the storing of the study are in. KerasTuner's model is its user's when the
search has ended; that is what ``speedup`` compares. ``speedup_to_first`` takes the moment at which
KerasTuner first had a model of its final accuracy, without knowing that it would be the last word.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.mnist import smaller

LEAST_SPEEDUP = 3.0
OBJECTIVE = "kt:examples.kerastuner:build_model"
_LOOK_SECONDS = 0.25
_LONGEST_SECONDS = 3600.0
_BEST = """
SELECT max(v.intermediate_value) AS best
FROM trial_intermediate_values v JOIN trials t USING (trial_id) JOIN studies s USING (study_id)
WHERE s.study_name = 'race'
"""

Points = list[tuple[float, float]]  # seconds since the command, validation accuracy


def main() -> int:
    options = _options()
    if options.tuner:
        _search(options)
        return 0
    seeds = [_race(seed, options) for seed in range(options.seeds)]
    speedups = [each["speedup"] for each in seeds if each["speedup"] is not None]
    result = {
        "search": options.search,
        "objective": options.objective,
        "max_epochs": options.max_epochs,
        "seeds": seeds,
        "reached": len(speedups),
        # A seed in which the target was not reached counts as slower than all others.
        "median_speedup": _median([each["speedup"] or 0.0 for each in seeds]),
        "median_speedup_to_first": _median([each["speedup_to_first"] or 0.0 for each in seeds]),
        "median_kerastuner_seconds": _median([each["kerastuner_seconds"] for each in seeds]),
        "least_speedup": LEAST_SPEEDUP,
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0 if result["median_speedup"] >= LEAST_SPEEDUP else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--search", choices=["hyperband", "random"], default="hyperband")
    parser.add_argument("--max-epochs", type=int, default=None, help="default: 8, random: 5")
    parser.add_argument("--trials", type=int, default=5, help="of KerasTuner's RandomSearch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--objective", default=OBJECTIVE, help=f"of orch run, default {OBJECTIVE}")
    parser.add_argument("--examples", type=int, help="of MNIST's 60,000, for a quick look")
    parser.add_argument("--until-target", action="store_true", help="end orch run at the target")
    parser.add_argument("--orch", action="append", default=[], help="an option for orch run")
    parser.add_argument("--tuner", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.max_epochs is None:
        options.max_epochs = 8 if options.search == "hyperband" else 5
    return options


def _race(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="orch-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        environment = {**os.environ, "ORCH_HOME": name}
        environment.pop("ORCH_STORAGE", None)
        if options.examples:
            environment["ORCH_MNIST"] = str(smaller(options.examples, folder))
        theirs = _kerastuner(seed, options, folder, environment)
        target, seconds = max(value for _, value in theirs), theirs[-1][0]
        first = next(at for at, value in theirs if value >= target)
        try:
            ours = _orch(seed, options, target, seconds, environment)
        finally:
            command = [sys.executable, "-m", "orchestrator", "db", "stop"]
            subprocess.run(command, env=environment, check=False, capture_output=True)
    reached = next((at for at, value in ours if value >= target), None)
    return {
        "seed": seed,
        "target": round(target, 5),
        "kerastuner_seconds": round(seconds, 1),
        "kerastuner_epochs": len(theirs),
        "kerastuner_reached_seconds": round(first, 1),
        "orch_reached_seconds": None if reached is None else round(reached, 1),
        "speedup": None if reached is None else round(seconds / reached, 2),
        "speedup_to_first": None if reached is None else round(first / reached, 2),
        "orch_best_at_equal_time": round(max((v for at, v in ours if at <= seconds), default=0), 5),
    }


def _kerastuner(
    seed: int, options: argparse.Namespace, folder: Path, environment: dict[str, str]
) -> Points:
    """Each epoch of KerasTuner's search; the last point is the search's end."""
    log = folder / "epochs.jsonl"
    command = [sys.executable, "-m", "benchmarks.time_to_accuracy", "--tuner", str(log)]
    command += ["--seed", str(seed), "--search", options.search, "--trials", str(options.trials)]
    command += ["--max-epochs", str(options.max_epochs)]
    started = time.time()
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    ended = time.time()
    points = [json.loads(line) for line in log.read_text().splitlines()]
    # The model is the user's when the search has ended; then it also knows which one it is.
    points[-1][0] = ended
    return [(at - started, value) for at, value in points]


def _search(options: argparse.Namespace) -> None:
    """KerasTuner's part, in a process of its own."""
    import keras_tuner

    from examples.kerastuner import build_model
    from orchestrator.training.data import load
    from orchestrator.training.rounds import Rounds

    split = Rounds(load("mnist"), None, 0, 1)[0]
    folder = str(Path(options.tuner).parent / "kerastuner")
    common: dict[str, Any] = {
        "objective": "val_accuracy", "seed": options.seed, "directory": folder, "overwrite": True,
    }  # fmt: skip
    if options.search == "hyperband":
        tuner = keras_tuner.Hyperband(
            build_model, max_epochs=options.max_epochs, factor=3, **common
        )
    else:
        tuner = keras_tuner.RandomSearch(build_model, max_trials=options.trials, **common)
    tuner.search(
        split.x,
        split.y,
        epochs=options.max_epochs,
        validation_data=split.validation_data,
        callbacks=[_logger(options.tuner)],
        verbose=0,
    )


def _logger(path: str) -> Any:
    import keras

    class Logger(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            with Path(path).open("a") as log:  # KerasTuner copies its callbacks for each trial
                log.write(json.dumps([time.time(), logs["val_accuracy"]]) + "\n")

    return Logger()


def _orch(
    seed: int,
    options: argparse.Namespace,
    target: float,
    seconds: float,
    environment: dict[str, str],
) -> Points:
    """The best value so far, whenever it grew."""
    command = [sys.executable, "-m", "orchestrator", "run", options.objective, "--study", "race"]
    command += ["--data", "mnist", "--workers", str(options.workers), "--trials", "10000"]
    command += ["--epochs", str(options.max_epochs), "--seed", str(seed), *options.orch]
    points: Points = []
    started = time.time()
    run = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
    look = _looker(environment)
    try:
        while run.poll() is None and time.time() - started < _LONGEST_SECONDS:
            best = look()
            at = time.time() - started
            if best is not None and (not points or best > points[-1][1]):
                points.append((at, best))
            reached = bool(points) and points[-1][1] >= target
            better = bool(points) and points[-1][1] > target
            if reached and (options.until_target or better or at > seconds):
                break
            time.sleep(_LOOK_SECONDS)
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
            run.wait()
    if not points:
        raise SystemExit("orch run reported no value")
    return points


def _looker(environment: dict[str, str]) -> Any:
    """A function that asks the embedded server for the best value; None: there is none yet."""
    import psycopg2

    from orchestrator.errors import OrchError
    from orchestrator.storage.embedded import EmbeddedServer

    server = EmbeddedServer(Path(environment["ORCH_HOME"]))
    connection: Any = None

    def look() -> float | None:
        nonlocal connection
        try:
            if connection is None:
                url = server.url()
                connection = None if url is None else psycopg2.connect(url)
            if connection is None:
                return None
            with connection, connection.cursor() as cursor:
                cursor.execute(_BEST)
                (best,) = cursor.fetchone()
            return None if best is None else float(best)
        except (OrchError, psycopg2.Error):  # the server or the tables are not there yet
            return None

    return look


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 2)


if __name__ == "__main__":
    sys.exit(main())
