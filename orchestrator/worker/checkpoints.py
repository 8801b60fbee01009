"""Checkpoints: the state of a training, from which another attempt or worker resumes."""

from __future__ import annotations

import io
import json
import logging
import time
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import OrchError
from orchestrator.storage.artifacts import (
    ArtifactTooLarge,
    read_artifact,
    remove_artifacts,
    write_artifact,
)
from orchestrator.storage.claims import Claims
from orchestrator.worker.background import Background
from orchestrator.worker.endings import is_full
from orchestrator.worker.leaving import MachineFault
from orchestrator.worker.reporter import Reporter

if TYPE_CHECKING:
    from orchestrator.base.optuna_internals import ArtifactStore
    from orchestrator.worker.saved import SavedTrials

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
    the lock: one reference each, and an old one costs one more copy.

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
                self._warn_once(error)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _warn_once(self, error: Exception) -> None:
        # During an outage every epoch would say the same.
        if not self._has_warned:
            _log.warning("a checkpoint was not saved: %s", error)
        self._has_warned = True

    def _write(self, trial_id: int, checkpoint: Checkpoint) -> None:
        artifact_id, digest = write_artifact(self.store, checkpoint.encode())
        _, needless = self._claims.save_checkpoint(
            trial_id, checkpoint.step, artifact_id, digest, self._reporter.undelivered(trial_id)
        )
        remove_artifacts(self.store, needless)
        self._has_warned = False
