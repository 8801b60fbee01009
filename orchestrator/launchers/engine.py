"""What an engine does for a study: start K workers, say how they are, change K, end them."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import OrchError, UsageError


@dataclass(frozen=True)
class Job:
    """What an engine runs several times: ``orch worker STUDY``, with what one of them needs.

    Attributes:
        study: the study's name.
        processes: worker processes of one.
        cpus: CPU cores of one.
        gpus: GPUs of one.
        memory: memory of one, as the engine writes it; None: the engine's default.
    """

    study: str
    processes: int = 1
    cpus: int = 1
    gpus: int = 0
    memory: str | None = None

    def arguments(self) -> list[str]:
        """The words after ``orch``."""
        return ["worker", self.study, "--processes", str(self.processes)]


@dataclass(frozen=True)
class Member:
    """One of the K, as its engine has it.

    Attributes:
        name: the engine's name for it.
        state: the engine's word for how it is.
        where: its machine; empty: none yet.
    """

    name: str
    state: str
    where: str


class Engine(ABC):
    """Runs workers on a cluster. What it started is found again by the study's name alone."""

    name: ClassVar[str]

    @abstractmethod
    def start(self, job: Job, workers: int) -> str:
        """Ask for K workers.

        Returns:
            What the engine calls them, for a message.

        Raises:
            UsageError: the engine is not here, or some for this study exist already.
            OrchError: the engine refused.
        """

    @abstractmethod
    def status(self, study: str) -> list[Member]:
        """Those of this study that wait or run."""

    @abstractmethod
    def scale(self, study: str, workers: int) -> None:
        """Have K from now on; those that are too many leave in order."""

    @abstractmethod
    def cancel(self, study: str) -> None:
        """End all of them; running trials are given back."""

    @abstractmethod
    def logs(self, study: str) -> str:
        """What they wrote."""


def label(study: str) -> str:
    """What a study's workers are called in an engine."""
    return f"orch-{study}"


def call(command: Sequence[str], install: str, standard_input: str | None = None) -> str:
    """Run an engine's own command.

    Args:
        command: its words.
        install: what to install where the command is not there.
        standard_input: what it reads.

    Returns:
        What it printed.

    Raises:
        UsageError: it is not there.
        OrchError: it failed; the message is its last line.
    """
    if shutil.which(command[0]) is None:
        raise UsageError(f"{command[0]} is not on this machine; {install}")
    done = subprocess.run(
        command, input=standard_input, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise OrchError(f"{command[0]} failed: {lines[-1]}")
    return done.stdout
