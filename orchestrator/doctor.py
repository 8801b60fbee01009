"""The doctor: is this machine ready? Each check prints ok or how to fix it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator.base.files import home
from orchestrator.base.printed import Printed
from orchestrator.errors import DataError, OrchError
from orchestrator.resolve.objective import make_objective
from orchestrator.resolve.pins import check_data, compare_software
from orchestrator.storage.database import clock_skew_seconds, describe
from orchestrator.storage.schema import open_database
from orchestrator.storage.studies import open_study
from orchestrator.training.data import load
from orchestrator.worker.process import cores, list_gpus

_LEAST_DISK_BYTES = 2 * 1024**3
_MOST_SKEW_SECONDS = 5.0


__all__ = ["Finding", "Findings", "examine"]


@dataclass(frozen=True)
class Finding:
    """One check; prints as its line.

    Attributes:
        subject: what was looked at.
        ok: whether it is well.
        text: what was found, and how to fix it.
        needed: without it, nothing works here; else only some studies need it.
    """

    subject: str
    ok: bool
    text: str
    needed: bool = True

    @property
    def status(self) -> Literal["ok", "fix", "note"]:
        """``"ok"``, ``"fix"``, or ``"note"`` for what only some studies need."""
        return "ok" if self.ok else "fix" if self.needed else "note"

    def __str__(self) -> str:
        word = "MEND" if self.status == "fix" else self.status
        return f"{word:<4}  {self.subject:<10}  {self.text}"


class Findings(Printed):
    """The checks, each made when it is asked for; printed, a line each.

    Args:
        made: makes them, the quick ones first.
    """

    def __init__(self, made: Iterator[Finding]) -> None:
        self._made = made
        self._found: list[Finding] = []

    def __iter__(self) -> Iterator[Finding]:
        yield from self._found
        for finding in self._made:
            self._found.append(finding)
            yield finding

    @property
    def ok(self) -> bool:
        """Whether nothing that is needed is missing."""
        return all(finding.ok or not finding.needed for finding in self)

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def examine(study: str | None = None, *, storage: str | None = None) -> Findings:
    """Check this machine: storage, clocks, data, TensorFlow, GPUs and disk.

    Example:
        print(orch.doctor.examine("mlp", storage="postgresql://orch@db.lab/orch"))

    Args:
        study: does this machine fit this study?
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.
    """
    return Findings(_examine(storage, study))


def _examine(storage: str | None, study: str | None) -> Iterator[Finding]:
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
        database = open_database(storage, create=False, upgrade=False)
        yield Finding("storage", True, describe(database.url))
        skew = clock_skew_seconds(database)
    except OrchError as error:
        yield Finding("storage", False, str(error))
        return
    # Nothing depends on this clock, but logs of several machines are read side by side.
    well = abs(skew) <= _MOST_SKEW_SECONDS
    fix = "" if well else "; set this machine's clock, as with NTP"
    yield Finding("clock", well, f"{round(skew, 2) + 0.0:+.2f} s from the server's{fix}")


def examine_study(storage: str | None, name: str) -> Iterator[Finding]:
    """Whether this machine has the study's software and data."""
    try:
        database = open_database(storage, create=False, upgrade=False)
        study = open_study(database, name)
        different = compare_software(database, study)
    except OrchError as error:
        yield Finding("study", False, str(error))
        return
    fix = f"{different}; install the same, or work with --allow-mismatch"
    yield Finding("versions", not different, fix if different else f"those of study '{name}'")
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
    fix = "" if well else "; free some, or set ORCH_HOME to a larger disk"
    return Finding("disk", well, f"{free / 1024**3:.1f} GiB free for {home()}{fix}")


def _data(name: str, needed: bool = True) -> Finding:
    try:
        data = load(name)
    except DataError as error:
        return Finding(name, False, str(error), needed)
    test = data.facts(None).test
    return Finding(name, True, f"{data.examples} training and {test} test examples")


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
