"""How long ``orch --help`` takes beside importing Typer, and ``orch run`` beside TensorFlow.

    python -m benchmarks.startup --json

``--first-trial N`` runs ``orch run mnist`` N times, and looks when its first trial is claimed: then
the worker has imported TensorFlow and loaded the data. The first run starts the embedded server in
a new ORCH_HOME; it stands by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MOST_RATIO = 3.0
MOST_SECONDS_BESIDE_IMPORT = 2.0
_TRIALS = "SELECT count(*) FROM trials JOIN studies USING (study_id) WHERE study_name = %s"
_PATIENCE_SECONDS = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--first-trial", type=int, default=0, metavar="N", help="runs of orch run")
    options = parser.parse_args()
    orch = [str(Path(sys.executable).parent / "orch"), "--help"]
    peer = [sys.executable, "-c", "import typer"]
    ours, theirs = [], []
    for _ in range(options.repeats):  # in turns, so that a busy machine slows both
        ours.append(_seconds(orch))
        theirs.append(_seconds(peer))
    result = {
        "orch_help_seconds": round(statistics.median(ours), 4),
        "import_typer_seconds": round(statistics.median(theirs), 4),
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
        "most_ratio": MOST_RATIO,
        "repeats": options.repeats,
    }
    enough = result["ratio"] <= MOST_RATIO
    if options.first_trial:
        result |= _first_trials(options.first_trial)
        enough = enough and result["seconds_beside_import"] <= MOST_SECONDS_BESIDE_IMPORT
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))
    return 0 if enough else 1


def _first_trials(repeats: int) -> dict[str, Any]:
    """Seconds from ``orch run`` to its first trial, in turns with TensorFlow's import."""
    imports, starts = [], []
    with tempfile.TemporaryDirectory(prefix="orch-benchmark-") as folder:
        Path(folder).chmod(0o755)
        environment = {**os.environ, "ORCH_HOME": folder}
        environment.pop("ORCH_STORAGE", None)
        try:
            for number in range(repeats + 1):
                imports.append(_seconds([sys.executable, "-c", "import tensorflow"]))
                starts.append(_first_trial(f"study-{number}", environment))
        finally:
            command = [sys.executable, "-m", "orchestrator", "db", "stop"]
            subprocess.run(command, env=environment, check=False, capture_output=True)
    imported, started = statistics.median(imports), statistics.median(starts[1:])
    return {
        "import_tensorflow_seconds": round(imported, 2),
        "first_run_seconds": round(starts[0], 2),
        "first_trial_seconds": round(started, 2),
        "seconds_beside_import": round(started - imported, 2),
        "most_seconds_beside_import": MOST_SECONDS_BESIDE_IMPORT,
    }


def _first_trial(study: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-m", "orchestrator", "run", "mnist", "--study", study]
    command += ["--trials", "1", "--epochs", "1", "--workers", "1"]
    started = time.perf_counter()
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _has_trial(study, environment):
            if run.poll() or time.perf_counter() - started > _PATIENCE_SECONDS:
                raise SystemExit(f"orch run started no trial (exit code {run.returncode})")
            time.sleep(0.05)
        return time.perf_counter() - started
    finally:
        run.wait()


def _has_trial(study: str, environment: dict[str, str]) -> bool:
    import psycopg2

    from orchestrator.storage.embedded import EmbeddedServer

    url = EmbeddedServer(Path(environment["ORCH_HOME"])).url()
    if url is None:
        return False
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_TRIALS, (study,))
            row = cursor.fetchone()
        return bool(row and row[0])
    except psycopg2.Error:  # the tables are not there yet
        return False
    finally:
        connection.close()


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
