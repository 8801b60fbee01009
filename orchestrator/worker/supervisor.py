"""The local supervisor: keeps K worker processes at work, and lets none outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO
from uuid import UUID, uuid4

from orchestrator.errors import OrchError
from orchestrator.storage.database import Database
from orchestrator.worker.claim import Claims
from orchestrator.worker.devices import cores, divide_threads

_FINAL_CODES = {0, 1, 2, 3}
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 1.0, 30.0
# A process that dies so often without ending a trial will not do better the next time.
_MOST_CRASHES = 5


@dataclass(frozen=True)
class Crew:
    """Which processes a supervisor runs.

    Attributes:
        study: the study's name.
        study_id: and its id.
        processes: how many.
        gpus: the GPUs to share out, by their CUDA names; empty: as the environment says.
        stay: workers wait for more budget when the study is done.
        timeout: seconds after which they take no further trial; None: none.
        logs: folder for their output; None: our own standard error.
    """

    study: str
    study_id: int
    processes: int
    gpus: Sequence[str] = ()
    stay: bool = False
    timeout: float | None = None
    logs: Path | None = None


@dataclass
class _Slot:
    index: int
    worker_id: UUID = field(default_factory=uuid4)
    process: subprocess.Popen[bytes] | None = None
    exit_code: int | None = None
    crashes: int = 0
    start_at: float = 0.0


class Supervisor:
    """Starts the crew, restarts what crashes, and takes back what a dead process held."""

    def __init__(self, database: Database, crew: Crew) -> None:
        self._database = database
        self._crew = crew
        self._slots = [_Slot(index) for index in range(crew.processes)]
        self._threads = divide_threads(cores(), crew.processes)
        self._signals = 0
        self._answered = 0
        self.messages: list[str] = []

    @property
    def interrupted(self) -> bool:
        """Whether somebody asked the crew to leave."""
        return self._signals > 0

    @contextmanager
    def running(self) -> Iterator[Supervisor]:
        """Run the crew inside the block. Signals ask it to leave: once orderly, twice at once."""
        handled = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP"):
            handled.append(signal.SIGHUP)
        before = {each: signal.signal(each, self._on_signal) for each in handled}
        try:
            yield self
        finally:
            self.kill()
            for each, handler in before.items():
                signal.signal(each, handler)

    def poll(self) -> bool:
        """Look after the crew once. Returns whether anybody still works."""
        if self._signals > self._answered:
            self._answer_signal()
        for slot in self._slots:
            if slot.process is None:
                if slot.exit_code is None and time.monotonic() >= slot.start_at:
                    self._start(slot)
                continue
            code = slot.process.poll()
            if code is not None:
                self._ended(slot, code)
        return any(slot.exit_code is None for slot in self._slots)

    def leave(self) -> None:
        """Ask every process to end after the value that it reports next."""
        for slot in self._slots:
            if slot.process is not None:
                _signal(slot.process, signal.SIGTERM)
            elif slot.exit_code is None:
                slot.exit_code = 130

    def kill(self) -> None:
        """End every process at once and give its trial back."""
        for slot in self._slots:
            process, slot.process = slot.process, None
            if process is None:
                continue
            process.kill()
            process.wait()
            slot.exit_code = 130
            claims = self._claims(slot)
            for trial_id in claims.held():
                claims.give_back(trial_id)
            claims.leave()

    def exit_code(self) -> int:
        """The crew's exit code: the gravest of its processes'."""
        return max((slot.exit_code or 0 for slot in self._slots), default=0)

    def last_words(self) -> str | None:
        """The last line that a process wrote before it ended with an error."""
        for slot in self._slots:
            if slot.exit_code and self._crew.logs is not None:
                lines = self._log_path(slot).read_text(errors="replace").strip().splitlines()
                if lines:
                    return lines[-1].split("] ", 1)[-1]
        return None

    def remove_logs(self) -> None:
        """Remove the logs of a crew that ended well."""
        for slot in self._slots:
            if self._crew.logs is not None:
                self._log_path(slot).unlink(missing_ok=True)

    def _start(self, slot: _Slot) -> None:
        slot.worker_id = uuid4()
        command = [sys.executable, "-m", "orchestrator.worker", self._crew.study]
        command += ["--worker-id", str(slot.worker_id), "--threads", str(self._threads)]
        command += ["--stay"] if self._crew.stay else []
        command += ["--timeout", str(self._crew.timeout)] if self._crew.timeout else []
        output: IO[bytes] | None = None
        if self._crew.logs is not None:
            self._crew.logs.mkdir(parents=True, exist_ok=True)
            output = self._log_path(slot).open("ab")
        slot.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closes with us: the process then leaves by itself
            stdout=output or sys.stderr,
            stderr=output or sys.stderr,
            env=self._environment(slot),
            start_new_session=True,  # Ctrl-C reaches us alone, and we ask them
        )
        if output is not None:
            output.close()

    def _environment(self, slot: _Slot) -> dict[str, str]:
        threads = str(self._threads)
        environment = {
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "OMP_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            **os.environ,
            "ORCH_STORAGE": self._database.url,
        }
        if self._crew.gpus:
            gpu = self._crew.gpus[slot.index % len(self._crew.gpus)]
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        return environment

    def _ended(self, slot: _Slot, code: int) -> None:
        process, slot.process = slot.process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if code in _FINAL_CODES or self.interrupted:
            slot.exit_code = code if code in _FINAL_CODES else 130
            return
        reason = _describe_exit(code)
        claims = self._claims(slot)
        held = claims.held()
        for trial_id in held:
            claims.fail(trial_id, f"its worker process {reason}", {})
        claims.leave()
        slot.crashes = 0 if held else slot.crashes + 1
        if slot.crashes >= _MOST_CRASHES:
            slot.exit_code = 1
            self.messages.append(
                f"a worker {reason} {slot.crashes} times without a trial; given up"
            )
            return
        wait = min(_FIRST_BACKOFF_SECONDS * 2**slot.crashes, _LONGEST_BACKOFF_SECONDS)
        slot.start_at = time.monotonic() + wait
        self.messages.append(f"a worker process {reason}; another starts in {wait:.0f} s")

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1  # poll() acts: a handler may stand in the middle of a query

    def _answer_signal(self) -> None:
        first, self._answered = self._answered == 0, self._signals
        if not first:
            self.kill()
            return
        self.messages.append(
            "stopping: running trials are given back after their epoch (again: at once)"
        )
        self.leave()

    def _claims(self, slot: _Slot) -> Claims:
        return Claims(self._database, self._crew.study_id, slot.worker_id)

    def _log_path(self, slot: _Slot) -> Path:
        assert self._crew.logs is not None
        return self._crew.logs / f"{self._crew.study}-{os.getpid()}-{slot.index}.log"


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        process.send_signal(number)
    except OSError as error:
        raise OrchError(f"cannot signal worker process {process.pid}: {error.strerror}") from None


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (out of memory, or killed by somebody)" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
