"""A worker's output: which part of it is of which trial.

A worker process and all that it starts write to one file. Where a trial begins and ends, the
process writes a mark into it, so that the order is right whoever writes. The supervisor reads the
file, cuts it at the marks, and stores what is of a trial, also after the process was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import time
from pathlib import Path
from uuid import UUID

from orchestrator.storage.claims import Claims
from orchestrator.storage.storable import clean
from orchestrator.storage.studies import LARGEST_OUTPUT
from orchestrator.storage.url import hide
from orchestrator.worker.endings import LONGEST_LOG

# A record separator; no terminal shows it, and hardly anybody prints it.
_SIGN = b"\x1e"
_ASIDE, _END = b"-", b"."
_LONGEST_MARK = 80

# Of what is read: much of it may be escape codes, and passwords are hidden before it is cut.
_MOST_KEPT = 4 * LARGEST_OUTPUT
_MOST_UNSHOWN = 4 * 2**20
_LEFT_OUT = b"(some lines are left out here)\n"
_MOST_UNSENT = 16  # trials that have ended
_LOG_LINES = 50
_CHUNK_BYTES = 4 * 2**20
_CHUNKS_AT_ONCE = 16


class Marks:
    """Writes into a worker's output where its trials begin and end.

    Args:
        descriptor: of the output; it is duplicated, as an objective may redirect its own. None:
            nothing is marked, because the output is the caller's own.
        worker: the worker's id.
    """

    def __init__(self, descriptor: int | None = None, worker: UUID | None = None) -> None:
        self._output = None if descriptor is None else os.dup(descriptor)
        self._worker = worker
        self._leases = 0
        self._place = _END

    def begin(self, trial_id: int) -> None:
        """What is written from now on is of this trial."""
        self._leases += 1
        self._move(_place(trial_id, self._leases))

    def end(self) -> None:
        """What is written from now on is of no trial."""
        self._move(_END)

    def write_outside(self, text: str) -> None:
        """Write what is of no trial, while one may run."""
        if self._output is not None:
            content = text.encode(errors="backslashreplace")
            self._write(self._mark(_ASIDE) + content + self._mark(self._place))

    def _move(self, place: bytes) -> None:
        if self._output is None:
            return
        for stream in (sys.stdout, sys.stderr):  # they may be the objective's
            with contextlib.suppress(Exception):
                stream.flush()
        self._place = place
        self._write(self._mark(place))

    def _mark(self, place: bytes) -> bytes:
        assert self._worker is not None
        return _start(self._worker) + place + _SIGN

    def _write(self, content: bytes) -> None:
        assert self._output is not None
        with contextlib.suppress(OSError):  # a full disk; training may do without
            os.write(self._output, content)


def _place(trial_id: int, lease: int) -> bytes:
    return b"%d.%d" % (trial_id, lease)


def _start(worker: UUID) -> bytes:
    return _SIGN + worker.hex.encode() + b" "


def write_by_lines() -> None:
    """Let this process write each line as it is printed: a kill leaves no time to do so.

    UTF-8 in every locale, as the trial's output is stored.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    # What C libraries print, as well.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        library = ctypes.CDLL(None)
        name = "__stdoutp" if sys.platform == "darwin" else "stdout"
        by_lines = 1  # _IOLBF
        library.setvbuf(ctypes.c_void_p.in_dll(library, name), None, by_lines, ctypes.c_size_t(0))


class TrialOutput:
    """What a trial prints during one lease; of much, the newest part.

    Args:
        trial_id: Optuna's id of the trial.
        lease: counts the leases of its worker.
        has_gpu: as for :func:`shown_lines`.

    Attributes:
        trial_id: Optuna's id of the trial.
        lease: counts the leases of its worker.
        lines: how many whole lines it has printed.
        ended: nothing more comes.
    """

    def __init__(self, trial_id: int, lease: int, has_gpu: bool = False) -> None:
        self.trial_id = trial_id
        self.lease = lease
        self._has_gpu = has_gpu
        self.lines = 0
        self.ended = False
        self._kept = b""
        self._rest = b""  # of the line that has no end yet
        self._is_sent = True
        self._is_sent_as_ended = False
        self._sent_at = time.monotonic()

    @property
    def place(self) -> bytes:
        """As the mark names it."""
        return _place(self.trial_id, self.lease)

    def add(self, written: bytes) -> None:
        """It has written this, too."""
        if not written:
            return
        self._is_sent = False
        whole, newline, rest = (self._rest + written).rpartition(b"\n")
        if newline:
            newest = _newest(whole, _MOST_KEPT)  # of a flood, the other lines are only counted
            shown = [
                _last_state(line) + b"\n"
                for line in newest.split(b"\n")
                if _is_shown(line, self._has_gpu)
            ]
            self.lines += whole.count(b"\n", 0, len(whole) - len(newest)) + len(shown)
            self._kept = _newest(self._kept + b"".join(shown), _MOST_KEPT)
        if b"\r" in rest:
            # The end of the line may be that of the next part, or it may be written anew there.
            rest = _last_state(rest) + (b"\r" if rest.endswith(b"\r") else b"")
        self._rest = rest[-_MOST_KEPT:]

    def text(self, url: str) -> str:
        """The newest part as plain text, at most 64 KiB.

        Args:
            url: the storage's, whose password it must not show.
        """
        whole = _plain((self._kept + _last_state(self._rest)).decode(errors="replace"))
        # Cut twice: a password that the first cut goes through must not show.
        longer = _newest(whole.encode(), 2 * LARGEST_OUTPUT).decode(errors="ignore")
        shown = hide(longer, url)
        if shown.count("\n") != longer.count("\n"):  # who follows it counts lines
            shown = "\n".join(hide(line, url) for line in longer.split("\n"))
        return _newest(shown.encode(), LARGEST_OUTPUT).decode(errors="ignore")

    def last_lines(self, url: str) -> str:
        """The end of its text, as a failed trial's attribute has it."""
        text = self.text(url).strip()
        return "\n".join(text[-LONGEST_LOG:].splitlines()[-_LOG_LINES:])

    def is_due(self, seconds: float) -> bool:
        """Whether there is something to store, and the last time is long enough ago."""
        is_silent = not (self._kept or self._rest)  # of what it wrote, nothing may be shown
        if is_silent or (self._is_sent and self._is_sent_as_ended == self.ended):
            return False
        return self.ended or time.monotonic() - self._sent_at >= seconds

    def send(self, claims: Claims) -> None:
        """Store it.

        Raises:
            StorageError: the database is out of reach, or refuses it.
        """
        text = clean(self.text(claims.url))
        claims.store_output(self.trial_id, self.lease, text, self.lines, self.ended)
        self._is_sent, self._is_sent_as_ended = True, self.ended
        self._sent_at = time.monotonic()


def _last_state(line: bytes) -> bytes:
    """What a line shows in the end: a progress bar goes back to the line's start each time."""
    if b"\r" not in line:
        return line
    return next((state for state in reversed(line.split(b"\r")) if state), b"")


def _newest(content: bytes, most: int) -> bytes:
    """The last whole lines, or the end of the last one where that is longer."""
    if len(content) <= most:
        return content
    end = content[-most:]
    _, newline, lines = end.partition(b"\n")
    return lines if newline and lines else end


# Colours and movements, titles and links, and whatever else a terminal obeys.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def _plain(text: str) -> str:
    return _ESCAPES.sub("", text)


class WorkerOutput:
    """The output of one worker process, read as it grows.

    Args:
        path: the file.
        worker: the worker's id.
        most_last: how many bytes of its end are known.
        has_gpu: as for :func:`shown_lines`.
    """

    def __init__(self, path: Path, worker: UUID, most_last: int, has_gpu: bool = False) -> None:
        self._path = path
        self._has_gpu = has_gpu
        self._start = _start(worker)
        self._mark = re.compile(re.escape(self._start) + rb"([-.]|\d+\.\d+)" + _SIGN)
        self._read = self._freed = 0
        self._held = b""  # what may be the beginning of a mark
        self._most_last = most_last
        self._last = b""
        self._unshown = b""
        self._running: TrialOutput | None = None
        self._is_aside = False
        self._ended: list[TrialOutput] = []

    @property
    def trials(self) -> list[TrialOutput]:
        """What is known of trials, the oldest first; those that have ended, until they are sent."""
        return [*self._ended, *([] if self._running is None else [self._running])]

    def read(self, is_over: bool = False) -> None:
        """Read what is new.

        Args:
            is_over: the process has ended, so this is all.
        """
        with contextlib.suppress(OSError), self._path.open("r+b") as file:
            file.seek(self._read)
            chunks = 0
            while (is_over or chunks < _CHUNKS_AT_ONCE) and (chunk := file.read(_CHUNK_BYTES)):
                chunks += 1
                self._read += len(chunk)
                self._take(self._held + chunk)
            if self._read - self._freed >= _MOST_UNSHOWN:
                free_space(file.fileno(), self._freed, self._read - self._freed)
                self._freed = self._read
        if is_over:
            self._add(self._held)
            self._held = b""
            self._move_to(_END)

    def forget_sent(self) -> None:
        """Forget the trials that have ended and that are stored, or printed nothing."""
        self._ended = [each for each in self._ended if each.is_due(0)]

    def unshown(self, is_over: bool) -> bytes:
        """Whole lines that were written since the last call; what there is, if that is all."""
        whole = len(self._unshown) if is_over else self._unshown.rfind(b"\n") + 1
        shown, self._unshown = self._unshown[:whole], self._unshown[whole:]
        return shown

    def last(self) -> bytes:
        """The end of it, whoever wrote it."""
        return self._last

    def _take(self, content: bytes) -> None:
        *known, last = self._mark.split(content)
        for text, place in zip(known[::2], known[1::2], strict=True):
            self._add(text)
            self._move_to(place)
        whole = len(last) - self._length_of_beginning(last)
        self._add(last[:whole])
        self._held = last[whole:]

    def _length_of_beginning(self, text: bytes) -> int:
        """How much of the end may be the beginning of a mark; the rest of it is yet to be read."""
        sign = text.rfind(_SIGN, max(0, len(text) - _LONGEST_MARK))
        end = text[sign:] if sign >= 0 else b""
        place = end[len(self._start) :]
        is_beginning = (
            end == (self._start + place)[: len(end)] and place.strip(b"-.0123456789") == b""
        )
        return len(end) if is_beginning else 0

    def _add(self, text: bytes) -> None:
        if self._running is not None and not self._is_aside:
            self._running.add(text)
        self._last = (self._last + text)[-self._most_last :]
        self._unshown += text
        if len(self._unshown) > _MOST_UNSHOWN:
            self._unshown = _LEFT_OUT + _newest(self._unshown, _MOST_UNSHOWN // 2)

    def _move_to(self, place: bytes) -> None:
        self._is_aside = place == _ASIDE
        running = self._running
        if self._is_aside or (running is not None and place == running.place):
            return
        if running is not None:
            running.ended = True
            self._ended = [*self._ended, running][-_MOST_UNSENT:]
        self._running = None
        if place != _END:
            trial_id, lease = map(int, place.split(b"."))
            self._running = TrialOutput(trial_id, lease, self._has_gpu)


def free_space(descriptor: int, start: int, length: int) -> None:
    """Give a part of a file back to the disk, where that is possible; the rest keeps its place.

    To shorten the file instead would lose what the worker writes at that moment.
    """
    keep_size, punch_hole = 1, 2
    with contextlib.suppress(OSError, AttributeError):  # no Linux: the file goes with its worker
        ctypes.CDLL(None).fallocate(
            descriptor, keep_size | punch_hole, ctypes.c_long(start), ctypes.c_long(length)
        )


# TensorFlow's C++ parts write news of their start before they look at TF_CPP_MIN_LOG_LEVEL, so that
# level is kept here. Its Python part warns of each network that it traces anew, as every trial has
# one, and the levels of loggers are the objective's own affair.
_NATIVE_LINE = re.compile(
    r"(?:\d{4}-\d\d-\d\d [\d:.]+: )?([IWEF])(?:\d{4} [\d:.]+ +\d+)? \S+:\d+\] "
)
_PREAMBLE = "WARNING: All log messages before absl::InitializeLog()"
_PYTHON_WARNING = "WARNING:tensorflow:"
_SEVERITIES = "IWEF"  # the level is how many of them are silent
_DEFAULT_LEVEL = "2"


def shown_lines(text: str, has_gpu: bool) -> str:
    """The lines of a worker's output that are shown to the user, or are of a trial.

    Args:
        text: whole lines.
        has_gpu: the process was given a GPU; without one, a failed start of CUDA is expected.
    """
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", _DEFAULT_LEVEL)
    silent = _SEVERITIES[: int(level)] if level.isdigit() else ""

    def is_shown(line: str) -> bool:
        native = _NATIVE_LINE.match(line)
        if native is None:
            is_preamble = bool(silent) and line.startswith(_PREAMBLE)
            return not (is_preamble or ("W" in silent and line.startswith(_PYTHON_WARNING)))
        expected = "failed call to cuInit" in line and not has_gpu and bool(silent)
        return native[1] not in silent and not expected

    return "".join(filter(is_shown, text.splitlines(keepends=True)))


# How the lines begin that may be left out.
_MAY_BE_NEWS = re.compile(rb"\d{4}-\d\d|[IWEF]\d{4} |WARNING:")


def _is_shown(line: bytes, has_gpu: bool) -> bool:
    return not _MAY_BE_NEWS.match(line) or bool(shown_lines(line.decode(errors="replace"), has_gpu))
