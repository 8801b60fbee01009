"""Shim: the parent of a trial's command. What the command starts does not outlive the trial.

A process of its own, because the worker may be killed at any moment. It runs alone, without the
rest of orch: ``python -I -S shim.py CONTROL STATUS SECONDS FOLDER COMMAND…``.

CONTROL is a pipe whose other end the worker holds. A byte asks the command to leave: SIGTERM to its
process group, SIGKILL after SECONDS. When the pipe closes, the worker has ended, and SIGKILL comes
at once. STATUS tells the worker the exit code, and closes when no process of the command is left.
FOLDER is removed where the worker can no longer do that.

On Linux the shim adopts orphans, so it finds every descendant, also one with a session of its own.
Elsewhere those that have left the process group live on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

_REST_SECONDS = 5.0  # SIGKILL follows for what a command leaves behind that has ended by itself
_DEAD_SECONDS = 10.0  # a process that the kernel does not let die is not waited for any longer
_LOOK_SECONDS = 0.05
_BECOME_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class Shim:
    """Runs one command.

    Args:
        control: the pipe that the worker holds.
        status: where the exit code goes.
        seconds: between SIGTERM and SIGKILL.
    """

    def __init__(self, control: int, status: int, seconds: float) -> None:
        self._control: int | None = control
        self._status = status
        self._seconds = seconds
        self._woken = _wake_on_signals()
        self._code: int | None = None
        self._kill_at: float | None = None

    def run(self, command: list[str]) -> None:
        """Start the command, and stay until nothing of it is left."""
        _adopt_orphans()
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        except (OSError, ValueError) as error:
            self._tell(str(error))
            return
        _let_go_of_output()
        group = process.pid
        while not self._is_over(process):
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                _kill(group)
            self._listen(group)

    @property
    def is_alone(self) -> bool:
        """Whether the worker has ended."""
        return self._control is None

    def _is_over(self, process: subprocess.Popen[bytes]) -> bool:
        if self._code is None:
            self._code = process.poll()
            if self._code is None:
                return False
            self._tell(str(self._code))
            if _is_left(process.pid):
                self._end_rest(process.pid)
        given_up = self._kill_at is not None and time.monotonic() > self._kill_at + _DEAD_SECONDS
        return given_up or not _is_left(process.pid)

    def _tell(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the worker has ended
            os.write(self._status, text.encode())

    def _listen(self, group: int) -> None:
        """Wait for the worker, or for the end of a process."""
        watched = [self._woken] if self._control is None else [self._woken, self._control]
        seconds = None if self._kill_at is None else _LOOK_SECONDS
        readable, _, _ = select.select(watched, [], [], seconds)
        if self._woken in readable:
            os.read(self._woken, 4096)
        if self._control in readable:
            if os.read(self._control, 1):
                self._ask_to_leave(group, self._seconds)
            else:
                self._control, self._kill_at = None, time.monotonic()

    def _end_rest(self, group: int) -> None:
        """The command itself has ended: so must what it leaves behind."""
        if self._kill_at is None:
            self._ask_to_leave(group, _REST_SECONDS)
        for each in _descendants():
            _signal_one(each, signal.SIGTERM)

    def _ask_to_leave(self, group: int, seconds: float) -> None:
        wanted = time.monotonic() + seconds
        self._kill_at = wanted if self._kill_at is None else min(self._kill_at, wanted)
        _signal(group, signal.SIGTERM)
        _signal(group, signal.SIGCONT)  # what is stopped takes no other signal


def _wake_on_signals() -> int:
    """A pipe that can be read when a signal has come. Those that end a process do not end us.

    Handlers, because a command would inherit that a signal is ignored.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(each, lambda signum, frame: None)
    return woken


def _adopt_orphans() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0)


def _let_go_of_output() -> None:
    """The worker sees the end of the command's output when nobody else holds it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _is_left(group: int) -> bool:
    """Whether a process of the command lives, once the command itself has been waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True  # an orphan
    return _signal(group, 0)


def _kill(group: int) -> None:
    _signal(group, signal.SIGKILL)
    for each in _descendants():
        _signal_one(each, signal.SIGKILL)


def _signal(group: int, signum: int) -> bool:
    """Whether there is a process in the group that takes it."""
    try:
        os.killpg(group, signum)
    except OSError:
        return False
    return True


def _signal_one(process: int, signum: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        os.kill(process, signum)


def _descendants() -> list[int]:
    """All processes that come from this one, as Linux lists them; elsewhere none."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found = [os.getpid()]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def main() -> None:
    control, status, seconds, folder, *command = sys.argv[1:]
    shim = Shim(int(control), int(status), float(seconds))
    shim.run(command)
    if shim.is_alone:  # else the worker may still copy it
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
