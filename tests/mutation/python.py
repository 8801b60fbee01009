"""mutmut on the files that ``pyproject.toml`` names, with one server for all its runs.

    python tests/mutation/python.py                                 # all; goes on where it stopped
    python tests/mutation/python.py orchestrator.storage.claims       # of one module
    python tests/mutation/python.py --sample 60 orchestrator.worker # 60 of each module, by chance

Prints for each module how many mutants there are, were run, were noticed, and the names of those
that no test noticed. ``mutmut show NAME`` prints one of them; run it with this folder's Python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from orchestrator.storage.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent.parent
SURVIVED, NO_TEST = 0, 33
# Drawn anew, the same mutants are drawn.
SEED = 1


def run_mutmut(home: Path, *names: str, quiet: bool = False) -> None:
    """Whoever ends this one ends mutmut, too, and the mutant that it has at work."""
    process = subprocess.Popen(
        # Not two at once: mutants that hang would fill the server's connections.
        [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names],
        cwd=ROOT,
        env={**os.environ, "ORCH_TEST_HOME": str(home)},
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.DEVNULL if quiet else None,
        start_new_session=True,
    )
    try:
        process.wait()
    except BaseException:
        # It writes down what it has found, which a kill might cut off.
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def verdicts(prefixes: list[str]) -> dict[str, dict[str, int | None]]:
    """By module and mutant: the tests' exit status; None: not run."""
    found: dict[str, dict[str, int | None]] = defaultdict(dict)
    for meta in sorted((ROOT / "mutants").rglob("*.py.meta")):
        module = str(meta.relative_to(ROOT / "mutants")).removesuffix(".py.meta").replace("/", ".")
        if not prefixes or any(module.startswith(each) for each in prefixes):
            found[module] |= json.loads(meta.read_text())["exit_code_by_key"]
    return {module: statuses for module, statuses in found.items() if statuses}


def draw(statuses: dict[str, int | None], module: str, sample: int | None) -> list[str]:
    names = sorted(statuses)
    if sample is None or sample >= len(names):
        return names
    return random.Random(f"{SEED} {module}").sample(names, sample)


def report(module: str, statuses: dict[str, int | None], drawn: list[str]) -> bool:
    """Whether each that was drawn has been noticed."""
    run = [name for name in drawn if statuses[name] is not None]
    left = sorted(name for name in run if statuses[name] in (SURVIVED, NO_TEST))
    print(
        f"{module}: {len(statuses)} mutants, {len(drawn)} drawn, {len(run)} run, "
        f"{len(run) - len(left)} noticed, {len(left)} not noticed"
    )
    for name in left:
        print(f"    {name}{': no test calls it' if statuses[name] == NO_TEST else ''}")
    return not left and len(run) == len(drawn)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many of each module, drawn by chance")
    parser.add_argument("module", nargs="*", help="beginnings of module names")
    options = parser.parse_args()
    # Its server ends with it, as with Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="orch-mutation-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        server = EmbeddedServer(home)
        server.ensure_running()
        try:
            # Of no mutant: it makes them, looks which test calls what, and stops.
            run_mutmut(home, "no such mutant", quiet=True)
            found = verdicts(options.module)
            names = [
                name
                for each in found
                for name in draw(found[each], each, options.sample)
                if found[each][name] is None
            ]
            if names:
                run_mutmut(home, *names)
        except KeyboardInterrupt:
            print("stopped; the next call goes on from here")
        finally:
            server.stop()
    found = verdicts(options.module)
    right = [report(each, found[each], draw(found[each], each, options.sample)) for each in found]
    return 0 if right and all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
