"""Unfinished trials on this machine's disk: for when the database stays away too long."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.storage.embedded import home
from orchestrator.storage.files import write_whole
from orchestrator.worker.checkpoints import Checkpoint

_log = logging.getLogger("orch")


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
