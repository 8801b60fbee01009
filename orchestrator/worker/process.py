"""One worker process as its supervisor sees it, and its share of the cores and GPUs here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from enum import IntEnum
from pathlib import Path
from uuid import UUID, uuid4

import psutil

from orchestrator.errors import (
    OrchError,
    StorageError,
    StorageRefused,
    StudyFailed,
    Unstorable,
    UsageError,
)
from orchestrator.storage.claims import worker_id
from orchestrator.worker.endings import LONGEST_LOG
from orchestrator.worker.output import TrialOutput, WorkerOutput, shown_lines

TOKEN = "ORCH_WORKER_TOKEN"
_LOG_LINES = 50
_BYTES_PER_CHARACTER = 4  # at most, in UTF-8
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


class Exit(IntEnum):
    """How a worker process ends by itself; a user's code may exit with these, too."""

    DONE = 0
    FAILED = 1
    MISUSED = 2
    NO_STORAGE = 3
    INTERRUPTED = 130
    CRASHED = 70  # EX_SOFTWARE: an error of orch itself; the supervisor starts another process

    @classmethod
    def of(cls, error: OrchError) -> Exit:
        """How a process ends that an error ends; :meth:`error` says it again."""
        if isinstance(error, UsageError):
            return cls.MISUSED
        refused = isinstance(error, StorageRefused | Unstorable)
        return cls.NO_STORAGE if isinstance(error, StorageError) and not refused else cls.FAILED

    def error(self, words: str) -> OrchError:
        """The error of a process that has ended so."""
        if self is Exit.MISUSED:
            return UsageError(words)
        return StorageError(words) if self is Exit.NO_STORAGE else StudyFailed(words)


class WorkerProcess:
    """Starts ``python -m orchestrator.worker``; its output goes to a log file of its own.

    Args:
        study: the study's name.
        url: the database; handed over by the environment, which other users cannot read.
        threads: CPU threads that it may use.
        gpu: the CUDA name of its GPU; None: as the environment says.
        stay: it waits for more budget when the study is done.
        timeout: seconds after which it takes no further trial.
        logs: folder of the log file.
        handover: what it reads from its pipe before anything else; None: nothing.
    """

    def __init__(
        self,
        study: str,
        url: str,
        threads: int,
        gpu: str | None,
        stay: bool,
        timeout: float | None,
        logs: Path,
        handover: bytes | None = None,
    ) -> None:
        self.token: UUID = uuid4()
        self.doom: str | None = None  # why the supervisor ended it
        self._started = time.monotonic()
        self._has_gpu = bool(gpu)
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{study}-{worker_id(self.token)}.log"
        self._output = WorkerOutput(
            self._log, worker_id(self.token), _BYTES_PER_CHARACTER * LONGEST_LOG, self._has_gpu
        )
        self._cpu_seconds: float | None = None
        # It closes with us, however we end: the process then leaves by itself.
        watched, self._watch = os.pipe()
        os.set_blocking(self._watch, False)  # it reads only when it has imported what it needs
        self._unsent = memoryview(handover or b"")
        # -P: what lies in the current folder (an orchestrator.py, a random.py) is not in our way.
        command = [sys.executable, "-P", "-m", "orchestrator.worker", study]
        command += ["--threads", str(threads)]
        command += ["--supervisor", str(watched)]
        command += ["--stay"] if stay else []
        command += ["--timeout", str(timeout)] if timeout else []
        command += ["--handover"] if handover is not None else []
        try:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,  # what a child of the objective reads has an end
                    stdout=output,
                    stderr=output,
                    env=_environment(url, self.token, threads, gpu),
                    pass_fds=(watched,),
                    start_new_session=True,  # Ctrl-C reaches us alone, and we ask it
                )
        except BaseException:  # interrupted: a process that may have started leaves by itself
            os.close(self._watch)
            raise
        finally:
            os.close(watched)

    @property
    def has_unsent(self) -> bool:
        """Whether a part of the handover is still to be sent."""
        return len(self._unsent) > 0

    def fileno(self) -> int:
        """The pipe, for ``select``."""
        return self._watch

    def send(self) -> None:
        """Send as much of the handover as the pipe takes."""
        try:
            while self.has_unsent:
                self._unsent = self._unsent[os.write(self._watch, self._unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # it has ended
            self._unsent = memoryview(b"")

    @property
    def seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None: it runs."""
        code = self._process.poll()
        if code is not None:
            self._close_pipe()
        return code

    def ask_to_leave(self) -> None:
        """Ask it to end after the value that it reports next."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._close_pipe()

    def _close_pipe(self) -> None:
        self._unsent = memoryview(b"")
        if self._watch >= 0:
            os.close(self._watch)
            self._watch = -1

    def has_run(self) -> bool:
        """Whether it has used the processor since the last call, itself or a child of its own.

        A process that is stopped or has ended has not. The first call only looks.
        """
        try:
            process = psutil.Process(self._process.pid)
            if process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                return False
            seconds = sum(map(_cpu_seconds, [process, *process.children(recursive=True)]))
        except psutil.NoSuchProcess:
            return False
        before, self._cpu_seconds = self._cpu_seconds, seconds
        return before is not None and seconds > before

    def read_output(self) -> None:
        """Read what it has written since the last call."""
        self._output.read(is_over=self._process.returncode is not None)

    def new_output(self) -> str:
        """Whole lines that it has written since the last call, without TensorFlow's usual news."""
        self.read_output()
        lines = self._output.unshown(is_over=self._process.returncode is not None)
        return shown_lines(lines.decode(errors="replace"), self._has_gpu)

    @property
    def trial_outputs(self) -> list[TrialOutput]:
        """What its trials printed, as far as it is read and not yet stored."""
        return self._output.trials

    def forget_sent_output(self) -> None:
        """Drop the output of its trials that has been stored."""
        self._output.forget_sent()

    def last_lines(self) -> str:
        """The end of its log."""
        text = self._output.last().decode(errors="replace").strip()
        return "\n".join(text[-LONGEST_LOG:].splitlines()[-_LOG_LINES:])

    def remove_log(self) -> None:
        """What mattered of it has been said or recorded."""
        self._log.unlink(missing_ok=True)


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (out of memory, or killed by somebody)" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # its parent has its time by now
    return float(times.user + times.system + times.children_user + times.children_system)


def _environment(url: str, token: UUID, threads: int, gpu: str | None) -> dict[str, str]:
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        **os.environ,
        "ORCH_STORAGE": url,
        # Everybody on this machine may read what a process was called with.
        TOKEN: str(token),
    }
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    return environment


def cores() -> int:
    """The cores that this process may use: its affinity and its container's limit count."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
        available = min(available, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no container, or one without a limit ("max")
    return available


def divide_threads(available: int, processes: int) -> int:
    """CPU threads for each of K processes, so that together they do not oversubscribe."""
    return max(1, available // max(1, processes))


def default_workers() -> int:
    """How many workers ``orch run`` starts: one a core, at most four."""
    return min(4, cores())


def parse_gpus(option: str | None) -> list[str]:
    """The GPUs that ``--gpus`` names: ``all``, ``none``, or a list such as ``0,1``.

    Returns:
        CUDA device names to share out; ``[""]`` hides every GPU; empty leaves all as it is.

    Raises:
        UsageError: a GPU that this machine does not have.
    """
    present = list_gpus()
    if option is None or option == "all":
        return present
    if option == "none":
        return [""]
    chosen = [name.strip() for name in option.split(",") if name.strip()]
    for name in chosen:
        if name not in present:
            have = ", ".join(present) or "none"
            raise UsageError(f"--gpus: no GPU '{name}' on this machine; it has {have}")
    return chosen


def list_gpus() -> list[str]:
    """CUDA names of the GPUs here, without loading TensorFlow."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listing.stdout.split()
