"""The doctor: checks of this machine, each with its mend."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.base.files import home
from orchestrator.errors import DataError, OrchError
from orchestrator.resolve.objective import make_objective
from orchestrator.resolve.pins import check_data, compare_software
from orchestrator.storage.database import clock_skew_seconds, describe
from orchestrator.storage.schema import open_database
from orchestrator.storage.studies import open_study
from orchestrator.training.data import load
from orchestrator.worker.devices import cores, list_gpus

_LEAST_DISK_BYTES = 2 * 1024**3
_MOST_SKEW_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is well, and what was found or the mend.

    Attributes:
        needed: without it, nothing works here; else the mend is a note for who wants it.
    """

    subject: str
    ok: bool
    text: str
    needed: bool = True

    def line(self) -> str:
        word = "ok" if self.ok else "MEND" if self.needed else "note"
        return f"{word:<4}  {self.subject:<10}  {self.text}"


def examine(storage: str | None, study: str | None = None) -> Iterator[Finding]:
    """Run every check, the quick ones first; with a study, whether this machine fits it."""
    yield from examine_storage(storage)
    yield _disk()
    yield Finding("cores", True, f"{cores()} usable")
    gpus = list_gpus()
    yield Finding("GPUs", True, ", ".join(gpus) if gpus else "none; training runs on the CPU")
    if study is None:
        yield _data("mnist", needed=False)  # only the objective of that name trains on it
        yield _data("digits")
    else:
        yield from examine_study(storage, study)
    yield _tensorflow()


def examine_storage(storage: str | None) -> Iterator[Finding]:
    """Whether the storage answers, and whether its clock and this machine's agree."""
    try:
        database = open_database(storage)
        yield Finding("storage", True, describe(database.url))
        skew = clock_skew_seconds(database)
    except OrchError as error:
        yield Finding("storage", False, str(error))
        return
    # Nothing depends on this clock, but logs of several machines are read side by side.
    well = abs(skew) <= _MOST_SKEW_SECONDS
    mend = "" if well else "; set this machine's clock, as with NTP"
    yield Finding("clock", well, f"{round(skew, 2) + 0.0:+.2f} s from the server's{mend}")


def examine_study(storage: str | None, name: str) -> Iterator[Finding]:
    """Whether this machine has the study's software and data."""
    try:
        database = open_database(storage)
        study = open_study(database, name)
        different = compare_software(database, study)
    except OrchError as error:
        yield Finding("study", False, str(error))
        return
    mend = f"{different}; install the same, or work with --allow-mismatch"
    yield Finding("versions", not different, mend if different else f"those of study '{name}'")
    if study.data is None:
        yield Finding("data", True, "none is needed")
        return
    try:
        check_data(study, make_objective(study.spec))
    except OrchError as error:
        yield Finding("data", False, str(error))
        return
    yield Finding("data", True, f"those of study '{name}'")


def _disk() -> Finding:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    well = free >= _LEAST_DISK_BYTES
    mend = "" if well else "; free some, or set ORCH_HOME to a larger disk"
    return Finding("disk", well, f"{free / 1024**3:.1f} GiB free for {home()}{mend}")


def _data(name: str, needed: bool = True) -> Finding:
    try:
        data = load(name)
    except DataError as error:
        return Finding(name, False, str(error), needed)
    return Finding(name, True, f"{len(data.x_train)} training and {len(data.x_test)} test examples")


def _tensorflow() -> Finding:
    # In a process of its own: a broken TensorFlow may end the process that imports it.
    code = (
        "import tensorflow as tf, keras;"
        "gpus = len(tf.config.list_physical_devices('GPU'));"
        "print(f'TensorFlow {tf.__version__}, Keras {keras.__version__}, {gpus} GPUs visible')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding("TensorFlow", True, done.stdout.strip())
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return Finding("TensorFlow", False, f"{lines[-1]}; reinstall with: pip install tensorflow")
