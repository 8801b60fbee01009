"""Saved trials: left on this machine's disk, because the database stayed away."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial

from orchestrator.base.files import home, write_whole
from orchestrator.spec.choices import internal, read_domain
from orchestrator.worker.checkpoints import Checkpoint

_log = logging.getLogger("orch")


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
