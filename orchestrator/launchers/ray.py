"""Ray: detached actors with declared CPUs and GPUs, each an orch worker, on a running cluster."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.extras import install
from orchestrator.errors import OrchError, UsageError
from orchestrator.launchers.launcher import Job, Launcher, Worker, label

_NAMESPACE = "orch"
# The rest of the environment is that of the machine where the actor runs.
_HANDED_ON = (
    "ORCH_STORAGE", "ORCH_PASSWORD_FILE", "PGPASSFILE", "PGSERVICEFILE", "PGSSLMODE",
    "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PYTHONPATH",
)  # fmt: skip
_KNOCK_SECONDS = 5.0
_LEAVE_SECONDS, _ANSWER_SECONDS, _RESTART_SECONDS = 120.0, 10.0, 10.0
_TAIL_BYTES = 4000
_FINAL_CODES = {0, 1, 2}  # done, failed, wrong use: another start would do no better


class WorkerActor:
    """Runs ``orch worker`` beside it from its making on, so that a restarted actor works again.

    Args:
        name: the actor's own name; it ends itself under that when the work is done.
        job: what it runs.
        environment: what is set for it beside this machine's own.
        folder: where it works, if that is there; objectives beside the user are found there.
    """

    def __init__(self, name: str, job: Job, environment: Mapping[str, str], folder: str) -> None:
        self._name, self._job = name, job
        self._environment = {**os.environ, **environment}
        self._folder = folder if os.path.isdir(folder) else None
        self._log = Path(tempfile.mkdtemp(prefix="orch-ray-")) / "worker.log"
        self._leaving = threading.Event()
        self._process = self._run()
        threading.Thread(target=self._watch, daemon=True).start()

    def node(self) -> str:
        """The machine that it is on."""
        return os.uname().nodename

    def job(self) -> Job:
        """What it runs."""
        return self._job

    def tail(self) -> str:
        """The end of what the worker wrote."""
        return self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")

    def leave(self) -> None:
        """End the worker in order, which gives its trial back."""
        self._leaving.set()
        self._process.terminate()
        self._process.wait(_LEAVE_SECONDS)

    def _run(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestrator", *self._job.arguments()],
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._folder,
            )

    def _watch(self) -> None:
        import ray

        # Other codes are no storage, or a crash.
        while self._process.wait() not in _FINAL_CODES and not self._leaving.wait(_RESTART_SECONDS):
            self._process = self._run()
        # Without this, its CPUs would stay taken for a study that is done.
        ray.kill(ray.get_actor(self._name, namespace=_NAMESPACE), no_restart=True)


class Ray(Launcher):
    """Workers as named, detached actors.

    Args:
        address: the cluster; ``auto``: the one that runs on this machine.
    """

    name = "ray"

    def __init__(self, address: str = "auto") -> None:
        self._address = address

    def submit(self, job: Job, workers: int) -> str:
        if self._actors(job.study):
            raise UsageError(
                f"Ray has workers of study '{job.study}' already; change their number with: "
                + self.hint("scale", job.study, "--workers", str(workers))
            )
        self._add(job, range(workers))
        return f"{workers} actors"

    def where(self) -> Sequence[str]:
        return [] if self._address == "auto" else ["--address", self._address]

    def planned(self, job: Job, workers: int) -> str:
        return f"{workers} actors, each: {shlex.join(['orch', *job.arguments()])}\n"

    def status(self, study: str) -> list[Worker]:
        nodes = self._ask(study, "node")
        return [
            Worker(name, "WAITING" if node is None else "RUNNING", node or "")
            for name, node in nodes.items()
        ]

    def rescale(self, study: str, workers: int) -> None:
        members = self.status(study)
        if workers < len(members):
            # Those that wait go first.
            idlest = sorted(members, key=lambda member: member.state == "RUNNING")
            self._end(study, idlest[: len(members) - workers])
            return
        job = next((job for job in self._ask(study, "job").values() if job is not None), None)
        if job is None:
            words = ["orch", "launch", "ray", study, "--workers", str(workers), *self.where()]
            raise OrchError(
                f"Ray has no running workers of study '{study}'; start with: {shlex.join(words)}"
            )
        taken = {int(member.name.rpartition("/")[2]) for member in members}
        free = (index for index in range(workers + len(members)) if index not in taken)
        self._add(job, [next(free) for _ in range(workers - len(members))])

    def cancel(self, study: str) -> None:
        self._end(study, self.status(study))

    def logs(self, study: str) -> str:
        tails = self._ask(study, "tail")
        return "\n".join(
            f"== {name}\n{'(it waits for its CPUs)' if tail is None else tail}".rstrip()
            for name, tail in tails.items()
        )

    def _add(self, job: Job, indices: Iterable[int]) -> None:
        ray = self._connect()
        environment = {key: os.environ[key] for key in _HANDED_ON if key in os.environ}
        actor = ray.remote(WorkerActor)
        for index in indices:
            name = f"{label(job.study)}/{index}"
            actor.options(
                name=name,
                namespace=_NAMESPACE,
                lifetime="detached",
                num_cpus=job.cpus,
                num_gpus=job.gpus,
                memory=_bytes(job.memory),
                max_restarts=-1,  # on another node where its own is lost
                max_concurrency=4,  # it answers while it leaves
            ).remote(name, job, environment, os.getcwd())

    def _actors(self, study: str) -> dict[str, Any]:
        """Each actor by its name, in the order of their numbers."""
        ray = self._connect()
        listed = ray.util.list_named_actors(all_namespaces=True)
        names = [each["name"] for each in listed if each["namespace"] == _NAMESPACE]
        own = [name for name in names if name.rpartition("/")[0] == label(study)]
        found = {}
        for name in sorted(own, key=lambda name: int(name.rpartition("/")[2])):
            with contextlib.suppress(ValueError):  # it has just ended itself
                found[name] = ray.get_actor(name, namespace=_NAMESPACE)
        return found

    def _ask(self, study: str, method: str) -> dict[str, Any]:
        """What each actor answers; None: it does not, for now."""
        ray = self._connect()
        asked = {
            name: getattr(actor, method).remote() for name, actor in self._actors(study).items()
        }
        if not asked:
            return {}
        ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=_ANSWER_SECONDS)
        answers: dict[str, Any] = {}
        for name, answer in asked.items():
            try:
                answers[name] = ray.get(answer) if answer in ready else None
            except ray.exceptions.RayError:
                answers[name] = None  # it is being restarted, or has just ended
        return answers

    def _end(self, study: str, members: Sequence[Worker]) -> None:
        ray = self._connect()
        actors = self._actors(study)
        leaving = [
            actors[member.name].leave.remote()
            for member in members
            if member.state == "RUNNING" and member.name in actors
        ]
        if leaving:
            ray.wait(leaving, num_returns=len(leaving), timeout=_LEAVE_SECONDS)
        for member in members:
            if member.name in actors:
                ray.kill(actors[member.name], no_restart=True)

    def _connect(self) -> Any:
        try:
            import ray
        except ImportError:
            raise UsageError(f"Ray is not installed; {install('ray')}") from None
        if not ray.is_initialized():
            try:
                _knock(self._address)
                ray.init(self._address, namespace=_NAMESPACE, log_to_driver=False,
                         logging_level="ERROR")  # fmt: skip
            except (OSError, RuntimeError, ValueError) as error:
                raise OrchError(
                    f"no Ray cluster at {self._address}: {str(error).splitlines()[0]}; start one "
                    "with: ray start --head"
                ) from None
        return ray


def _knock(address: str) -> None:
    """Whether anybody listens there: Ray itself tries for ten minutes before it says no.

    Raises:
        OSError: nobody does.
        ValueError: that is no address.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address != "auto":  # else Ray looks for one on this machine, at once
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), _KNOCK_SECONDS).close()


def _bytes(memory: str | None) -> int | None:
    """``"4G"`` as Ray takes it."""
    if memory is None:
        return None
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    try:
        text = memory.upper().removesuffix("B").removesuffix("I")
        unit = units.get(text[-1:], 1)
        return int(float(text.rstrip("KMGT")) * unit)
    except ValueError:
        raise UsageError(f"--memory {memory}: write a number and a unit, as 4G") from None
