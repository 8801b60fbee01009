"""What a trial stores: its checkpoints, from which another attempt or worker resumes, its model."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial

from orchestrator.base.files import home, write_whole
from orchestrator.errors import OrchError, StorageUnavailable
from orchestrator.spec.choices import internal, read_domain
from orchestrator.spec.eligibility import feasible, known_infeasible
from orchestrator.spec.model import StudySpec
from orchestrator.storage.artifacts import (
    ArtifactTooLarge,
    read_artifact,
    remove_artifacts,
    write_artifact,
)
from orchestrator.storage.claims import Claims, Writes
from orchestrator.worker.endings import MachineFault, is_full, own_files
from orchestrator.worker.reporter import Background, Reporter

if TYPE_CHECKING:
    from orchestrator.base.optuna_internals import ArtifactStore

_log = logging.getLogger("orch")

Arrays = dict[str, NDArray[Any]]
_HEADER = "__checkpoint__"

Place = list[int]


def place(step: int, arrays: Arrays) -> Place:
    """Which checkpoint of a trial it is: the step, and the epoch within a fold or repeat."""
    return [step, int(arrays.get("epoch", 0))]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after a step.

    Attributes:
        step: the last step (epoch) that is in it.
        arrays: weights, optimizer state, random states; numbers only.
        facts: JSON-able: seeds, and values that the database does not have yet.
    """

    step: int
    arrays: Arrays
    facts: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As an uncompressed ``.npz``; it holds no Python objects."""
        header = json.dumps({"step": self.step, "facts": self.facts}).encode()
        buffer = io.BytesIO()
        named: Any = {_HEADER: np.frombuffer(header, np.uint8), **self.arrays}
        np.savez(buffer, allow_pickle=False, **named)
        return buffer.getvalue()

    @classmethod
    def decode(cls, content: bytes) -> Checkpoint:
        """The reverse of :meth:`encode`; nothing is unpickled.

        Raises:
            ValueError: it is damaged.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                header = json.loads(file[_HEADER].tobytes())
                arrays = {name: file[name] for name in file.files if name != _HEADER}
            return cls(int(header["step"]), arrays, header["facts"])
        except (OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"damaged checkpoint: {error}") from None


class Checkpoints(Background):
    """A worker's checkpoints; a thread stores the newest, so that training pays only for the copy.

    ``_changed`` guards ``_waiting`` and ``_busy``. The main thread alone has ``_saved_at``, the
    thread alone ``_has_warned``. ``_refused`` and ``_fault`` are set by the thread and read without
    the lock: one reference each, and an old one costs one more copy. A forked child of the
    objective has no such thread: it writes its checkpoints itself, and never takes the lock.

    Args:
        claims: the worker's.
        store: where the artifacts go.
        saved: the trials that had to be left on this machine's disk.
        least_seconds: the least time between two checkpoints of a trial.
        reporter: has what a trial has reported and the database lacks. Whoever resumes from the
            checkpoint will not report it again, so it is recorded with it.

    Attributes:
        store: as above.
        saved: as above.
    """

    def __init__(
        self,
        claims: Claims,
        store: ArtifactStore,
        saved: SavedTrials,
        least_seconds: float,
        reporter: Reporter,
    ) -> None:
        super().__init__("checkpoints")
        self._claims = claims
        self._process = os.getpid()
        self.store = store
        self.saved = saved
        self._least_seconds = least_seconds
        self._reporter = reporter
        self._waiting: tuple[int, Checkpoint] | None = None
        self._busy = False
        self._refused = False
        self._has_warned = False
        self._fault: Exception | None = None
        self._saved_at = time.monotonic()

    def start_trial(self) -> None:
        """The time to the trial's first checkpoint counts from here."""
        self._saved_at = time.monotonic()

    def are_due(self) -> bool:
        """Whether it is time for the next one."""
        return not self._refused and time.monotonic() - self._saved_at >= self._least_seconds

    def check(self) -> None:
        """Look whether checkpoints can still be written from this machine.

        Raises:
            MachineFault: the last one found its disk full.
        """
        if self._fault is not None:
            raise MachineFault(f"this machine cannot write checkpoints: {self._fault}; free space")

    def save(self, trial_id: int, checkpoint: Checkpoint) -> None:
        """Hand a checkpoint over; an older one that still waits is dropped for it."""
        if self._is_forked():
            self._saved_at = time.monotonic()
            self._write_or_warn(trial_id, checkpoint)
            return
        with self._changed:
            self._waiting = (trial_id, checkpoint)
            self._saved_at = time.monotonic()
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits or is being written. Returns whether that is so."""
        if self._is_forked():
            return True
        with self._changed:
            return self._changed.wait_for(
                lambda: self._waiting is None and not self._busy, timeout=seconds
            )

    def load_newest(self, trial_id: int) -> Checkpoint | None:
        """The trial's newest checkpoint that is whole; None: it starts from the beginning."""
        for artifact_id, step, sha256 in self._claims.checkpoints(trial_id):
            try:
                return Checkpoint.decode(read_artifact(self.store, artifact_id, sha256))
            except OrchError:
                raise
            except Exception as error:  # whatever a store raises for what is not there
                _log.warning("checkpoint of step %d cannot be used (%s)", step, error)
        return None

    def artifacts_of(self, trial_id: int) -> list[str]:
        """The names of the trial's checkpoints in the store."""
        return [artifact_id for artifact_id, _, _ in self._claims.checkpoints(trial_id)]

    def remove(self, artifact_ids: list[str]) -> None:
        """Remove checkpoints that nobody needs any more."""
        remove_artifacts(self.store, artifact_ids)

    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._waiting is not None)
                if self._waiting is None:
                    return
                (trial_id, checkpoint), self._waiting = self._waiting, None
                self._busy = True
            try:
                self._write_or_warn(trial_id, checkpoint)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _write_or_warn(self, trial_id: int, checkpoint: Checkpoint) -> None:
        try:
            self._write(trial_id, checkpoint)
        except ArtifactTooLarge as error:
            self._refused = True
            _log.warning("no checkpoints for this study: %s", error)
        except Exception as error:  # a store of somebody else's may raise anything
            self._fault = error if is_full(error) else None
            _log.debug("checkpoint of step %d not saved: %s", checkpoint.step, error)
            self._warn_once(error)

    def _warn_once(self, error: Exception) -> None:
        # During an outage every epoch would say the same.
        if not self._has_warned:
            _log.warning("a checkpoint was not saved: %s", error)
        self._has_warned = True

    def _write(self, trial_id: int, checkpoint: Checkpoint) -> None:
        artifact_id, digest = write_artifact(self.store, checkpoint.encode())
        # A forked child has waited for the arrival of all that it reported.
        writes = Writes() if self._is_forked() else self._reporter.undelivered(trial_id)
        _, needless = self._claims.save_checkpoint(
            trial_id, checkpoint.step, artifact_id, digest, writes
        )
        remove_artifacts(self.store, needless)
        self._has_warned = False


class SavedTrials:
    """The trials of one study that are saved on this machine, by the number of the first attempt.

    Args:
        study_key: distinguishes the study from any other of its name, on any server.
    """

    def __init__(self, study_key: str) -> None:
        self._folder = _folder() / hashlib.sha256(study_key.encode()).hexdigest()[:16]

    def save(self, number: int, trial: FrozenTrial, checkpoint: Checkpoint) -> bool:
        """Save a trial with its state, and with what the database may lack of it.

        Args:
            number: of the first attempt at its configuration.
            trial: its parameters and values.
            checkpoint: its state.

        Returns:
            False: the disk does not take it. Without the database too, nothing more can be done.
        """
        values = {str(step): value for step, value in trial.intermediate_values.items()}
        drawn = [
            [name, value, distribution_to_json(trial.distributions[name])]
            for name, value in drawn_values(trial).items()
        ]
        facts = {**checkpoint.facts, "values": values, "drawn": drawn}
        try:
            path = self.write(number, Checkpoint(checkpoint.step, checkpoint.arrays, facts))
        except OSError as error:
            _log.warning("trial %d cannot be kept on this machine: %s", trial.number, error)
            return False
        _log.warning("trial %d is kept in %s; a later worker here takes it up", trial.number, path)
        return True

    def write(self, number: int, checkpoint: Checkpoint) -> Path:
        """Write a file that :meth:`load` reads.

        Raises:
            OSError: the disk does not take it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        content = checkpoint.encode()
        path = Path(self._path(number))
        write_whole(path, hashlib.sha256(content).digest() + content)
        return path

    def load(self, number: int) -> Checkpoint | None:
        """What was saved; None: nothing, or nothing whole."""
        try:
            with open(self._path(number), "rb") as file:
                content = file.read()
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                raise ValueError("its checksum is wrong")
            return Checkpoint.decode(content[32:])
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("%s cannot be used (%s)", self._path(number), error)
            return None

    def remove(self, number: int) -> None:
        """The trial has ended; nothing is left of it here."""
        # The worker asks for every trial, and a Path costs more than the call to the system.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(number))

    def _path(self, number: int) -> str:
        return f"{self._folder}/trial-{number}.npz"


def drawn_values(trial: FrozenTrial) -> dict[str, float]:
    """The trial's parameters as the database has them, by name."""
    return {
        name: internal(domain, trial.params[name]) for name, domain in trial.distributions.items()
    }


def saved_params(saved: Checkpoint) -> dict[str, tuple[float, BaseDistribution]]:
    """The parameters of a saved trial: what the database has of a value, and the domain."""
    drawn = saved.facts.get("drawn", [])
    return {name: (value, read_domain(text)) for name, value, text in drawn}


def saved_files() -> Iterator[Path]:
    """What is saved on this machine, of all studies."""
    return _folder().glob("*/trial-*.npz")


def _folder() -> Path:
    return home() / "unfinished"


class OfferedModel:
    """One trial's model.

    The trial is worth more than its model: nothing here waits for the database.

    Args:
        claims: the worker's.
        store: where models go.
        spec: says how many are kept, and which attributes are constraints.
    """

    def __init__(self, claims: Claims, store: ArtifactStore, spec: StudySpec) -> None:
        self._claims = claims
        self._store = store
        self._count = spec.worker.keep_models
        self._constraints = spec.study.constraints
        self._content: bytes | None = None

    def offer(self, trial: FrozenTrial, value: float, save: Callable[[Path], object]) -> None:
        """Take the model, if its trial may be among the best.

        Args:
            trial: the trial as it is now.
            value: which it is going to end with.
            save: writes the model to a file; called only when it may be stored.

        Raises:
            MachineFault: this machine's disk does not take the file.
        """
        # As far as is known: a constraint may be set later, up to the trial's end.
        if not math.isfinite(value) or known_infeasible(trial, self._constraints):
            return
        try:
            if not self._claims.is_model_wanted(value, self._count):
                return
        except StorageUnavailable:
            return
        with own_files("the model"), tempfile.TemporaryDirectory(prefix="orch-") as folder:
            path = Path(folder) / "model.keras"
            try:
                save(path)
            except OSError:
                raise
            except Exception as error:  # whatever the objective raises; the trial has ended well
                _log.warning("the model of trial %d cannot be saved: %s", trial.number, error)
            if path.exists():  # a model that cannot be saved costs the trial nothing else
                self._content = path.read_bytes()

    def store(self, trial: FrozenTrial) -> None:
        """Store what was offered, once the trial is COMPLETE, unless a constraint forbids it."""
        # orch.keep_model would drop the others again, after all their bytes were written.
        if self._content is None or feasible(trial, self._constraints) is False:
            return
        try:
            artifact_id, digest = write_artifact(self._store, self._content)
            fallen = self._claims.keep_model(trial._trial_id, artifact_id, digest, self._count)
            remove_artifacts(self._store, fallen)
        except Exception as error:  # whatever a store raises; the trial itself has ended well
            _log.warning("the model of trial %d is not kept: %s", trial.number, error)
