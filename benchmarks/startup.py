"""How long ``orch --help`` takes beside importing Typer alone.

python -m benchmarks.startup --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

MOST_RATIO = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=15)
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
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))
    return 0 if result["ratio"] <= MOST_RATIO else 1


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
