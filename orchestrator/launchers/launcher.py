"""A launcher: it starts workers for a study on a cluster, says how they are, and ends them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import OrchError, UsageError
from orchestrator.storage.schema import open_database
from orchestrator.storage.studies import open_study

_STORAGE = "ORCH_STORAGE"


@dataclass(frozen=True)
class Job:
    """What a launcher runs several times: ``orch worker STUDY``, with what one of them needs.

    Attributes:
        study: the study's name.
        processes: worker processes of one.
        cpus: CPU cores of one; a fraction where the launcher can share a core out.
        gpus: GPUs of one.
        memory: memory of one, as the launcher writes it; None: its default.
        allow_command: they run the study's command on machines where nobody has given it.
    """

    study: str
    processes: int = 1
    cpus: float = 1
    gpus: int = 0
    memory: str | None = None
    allow_command: bool = False

    def arguments(self) -> list[str]:
        """The words after ``orch``."""
        allowed = ["--allow-command"] if self.allow_command else []
        return ["worker", self.study, "--processes", str(self.processes), *allowed]


@dataclass(frozen=True)
class Worker:
    """One of the workers, as its launcher has it.

    Attributes:
        name: the launcher's name for it.
        state: the launcher's word for how it is.
        where: its machine; empty: none yet.
    """

    name: str
    state: str
    where: str


class Launcher(ABC):
    """Runs workers on a cluster. What it started is found again by the study's name alone."""

    name: ClassVar[str]
    # Whether workers open the storage that is named here; else it is the cluster's own.
    hands_storage_on: ClassVar[bool] = True

    def hint(self, verb: str, study: str, *words: str) -> str:
        """A command that the user may copy; it finds the same cluster.

        Example:
            launcher.hint("scale", "mlp", "--workers", "8")
        """
        more = (*words, *self.where())
        return shlex.join(["orch", "launch", verb, self.name, study, *more])

    def where(self) -> Sequence[str]:
        """The options that name the cluster; none: it is found without any.

        Example:
            orch.launch.kubernetes(namespace="lab").where()
        """
        return ()

    def start(
        self,
        study: str,
        workers: int,
        *,
        processes: int = 1,
        cpus: float | None = None,
        gpus: int = 0,
        memory: str | None = None,
        allow_command: bool = False,
        storage: str | None = None,
    ) -> str:
        """Start workers for a study.

        Example:
            orch.launch.slurm().start("mlp", workers=8, cpus=4)

        Args:
            study: the study's name.
            workers: how many.
            processes: worker processes of each.
            cpus: cores of each, e.g. ``0.5`` where the launcher can share a core out; None: one
                per process.
            gpus: GPUs of each.
            memory: memory of each, as the launcher writes it; None: its default.
            allow_command: they run the study's command, where its objective is one, on machines
                where you have not given it.
            storage: a URL that the workers reach, too; None: ``ORCH_STORAGE``. Workers on
                Kubernetes take theirs from a Secret; this one is where the study is looked for.

        Returns:
            What the launcher calls them, for a message.

        Raises:
            UsageError: the launcher is not installed here, some for this study exist already, or
                other machines cannot reach the storage.
            NoSuchStudy: there is no study of that name.
            OrchError: the launcher refused.
        """
        job = Job(study, processes, cpus or processes, gpus, memory, allow_command)
        with _exported(storage):
            if self.hands_storage_on or os.environ.get(_STORAGE):
                _check(study, storage)
            return self.submit(job, workers)

    def plan(
        self,
        study: str,
        workers: int,
        *,
        processes: int = 1,
        cpus: float | None = None,
        gpus: int = 0,
        memory: str | None = None,
        allow_command: bool = False,
    ) -> str:
        """What :meth:`start` would hand to the launcher; it starts nothing.

        Example:
            print(orch.launch.slurm().plan("mlp", workers=8))
        """
        job = Job(study, processes, cpus or processes, gpus, memory, allow_command)
        return self.planned(job, workers)

    def scale(self, study: str, workers: int, *, storage: str | None = None) -> None:
        """Scale to this number of workers; those that are too many return their trials.

        Example:
            orch.launch.slurm().scale("mlp", workers=16)

        Raises:
            UsageError: the launcher is not installed here.
            OrchError: the launcher refused, or the study was not launched from here.
        """
        with _exported(storage):
            self.rescale(study, workers)

    @abstractmethod
    def submit(self, job: Job, workers: int) -> str:
        """Ask for the workers; see :meth:`start`."""

    @abstractmethod
    def planned(self, job: Job, workers: int) -> str:
        """See :meth:`plan`."""

    @abstractmethod
    def rescale(self, study: str, workers: int) -> None:
        """See :meth:`scale`."""

    @abstractmethod
    def status(self, study: str) -> list[Worker]:
        """The workers of a study that wait or run.

        Example:
            for worker in orch.launch.slurm().status("mlp"): print(worker.name, worker.state)
        """

    def ended(self, study: str) -> str | None:
        """How the study's workers ended, where none are left and the launcher still knows it.

        Example:
            orch.launch.kubernetes().ended("mlp")
        """
        return None

    @abstractmethod
    def cancel(self, study: str) -> None:
        """End all workers of a study; running trials are given back.

        Example:
            orch.launch.slurm().cancel("mlp")
        """

    @abstractmethod
    def logs(self, study: str) -> str:
        """The last lines that each worker wrote.

        Example:
            print(orch.launch.slurm().logs("mlp"))
        """


@contextmanager
def _exported(storage: str | None) -> Iterator[None]:
    """Launchers hand the environment on; a command line could be read by others."""
    before = os.environ.get(_STORAGE)
    if storage is not None:
        os.environ[_STORAGE] = storage
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_STORAGE, None)
        else:
            os.environ[_STORAGE] = before


def _check(study: str, storage: str | None) -> None:
    """The study exists, in a storage that other machines may reach; workers will find it."""
    if not os.environ.get(_STORAGE):
        raise UsageError(
            "other machines do not reach the embedded PostgreSQL of this one; name a server with "
            "--storage or ORCH_STORAGE, or open this one with: orch db serve --listen ADDRESS"
        )
    database = open_database(storage, create=False, upgrade=False)
    open_study(database, study)
    database.close()


def label(study: str) -> str:
    """What a study's workers are called in a launcher."""
    return f"orch-{study}"


def call(command: Sequence[str], install: str, standard_input: str | None = None) -> str:
    """Run a launcher's own command.

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
