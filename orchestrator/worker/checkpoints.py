"""Checkpoints of a trial, on the server and on this machine's disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.base.files import home, write_whole
from orchestrator.errors import OrchError
from orchestrator.storage.artifacts import (
    ArtifactTooLarge,
    read_artifact,
    remove_artifacts,
    write_artifact,
)
from orchestrator.storage.claims import Claims, Writes
from orchestrator.worker.background import Background
from orchestrator.worker.endings import is_full
from orchestrator.worker.leaving import MachineFault

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


class CheckpointWriter(Background):
    """Writes the newest checkpoint in a thread; the training pays only for the copy.

    Args:
        claims: the worker's, on a connection of its own.
        store: where the artifacts go, on a connection of its own.
        least_seconds: at least so long between two checkpoints of a trial.
        undelivered: what a trial has reported and the database lacks; who goes on from the
            checkpoint will not report it again, so it is recorded with it.
    """

    def __init__(
        self,
        claims: Claims,
        store: ArtifactStore,
        least_seconds: float,
        undelivered: Callable[[int], Writes],
    ) -> None:
        super().__init__("checkpoints")
        self._undelivered = undelivered
        self._claims = claims
        self._store = store
        self._least_seconds = least_seconds
        self._waiting: tuple[int, Checkpoint] | None = None
        self._busy = False
        self._refused = False
        self._said = False
        self._fault: Exception | None = None
        self._saved_at = time.monotonic()

    def begin(self) -> None:
        """A new trial: the time to its first checkpoint counts from here."""
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        """Whether the next checkpoint is due."""
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
        with self._changed:
            self._waiting = (trial_id, checkpoint)
            self._saved_at = time.monotonic()
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits or is being written. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._waiting is None and not self._busy, timeout=seconds
            )

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._waiting is not None)
                if self._waiting is None:
                    return
                (trial_id, checkpoint), self._waiting = self._waiting, None
                self._busy = True
            try:
                self._write(trial_id, checkpoint)
            except ArtifactTooLarge as error:
                self._refused = True
                _log.warning("no checkpoints for this study: %s", error)
            except Exception as error:  # a store of somebody else's may raise anything
                self._fault = error if is_full(error) else None
                _log.debug("checkpoint of step %d not saved: %s", checkpoint.step, error)
                self._say_once(error)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _say_once(self, error: Exception) -> None:
        # During an outage every epoch would say the same.
        if not self._said:
            _log.warning("a checkpoint was not saved: %s", error)
        self._said = True

    def _write(self, trial_id: int, checkpoint: Checkpoint) -> None:
        artifact_id, digest = write_artifact(self._store, checkpoint.encode())
        _, needless = self._claims.save_checkpoint(
            trial_id, checkpoint.step, artifact_id, digest, self._undelivered(trial_id)
        )
        remove_artifacts(self._store, needless)
        self._said = False


def load_newest(claims: Claims, store: ArtifactStore, trial_id: int) -> Checkpoint | None:
    """The trial's newest checkpoint that is whole; None: the trial starts from the beginning."""
    for artifact_id, step, sha256 in claims.checkpoints(trial_id):
        try:
            return Checkpoint.decode(read_artifact(store, artifact_id, sha256))
        except OrchError:
            raise
        except Exception as error:  # whatever a store raises for what is not there
            _log.warning("checkpoint of step %d cannot be used (%s)", step, error)
    return None


class UnfinishedTrials:
    """The checkpoints that one study's workers had to leave on this machine.

    Args:
        study_key: distinguishes the study from any other of its name, on any server.
    """

    def __init__(self, study_key: str) -> None:
        self._folder = _folder() / hashlib.sha256(study_key.encode()).hexdigest()[:16]

    def save(self, number: int, checkpoint: Checkpoint) -> Path:
        """Keep the state of the configuration whose first attempt is trial ``number``.

        Raises:
            OSError: the disk does not take it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        content = checkpoint.encode()
        path = Path(self._path(number))
        write_whole(path, hashlib.sha256(content).digest() + content)
        return path

    def load(self, number: int) -> Checkpoint | None:
        """What :meth:`save` kept; None: nothing, or nothing whole."""
        try:
            with open(self._path(number), "rb") as file:
                kept = file.read()
            if hashlib.sha256(kept[32:]).digest() != kept[:32]:
                raise ValueError("its checksum is wrong")
            return Checkpoint.decode(kept[32:])
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


def kept_files() -> Iterator[Path]:
    """What is kept on this machine, of all studies."""
    return _folder().glob("*/trial-*.npz")


def _folder() -> Path:
    return home() / "unfinished"
