"""The process of a trial's command, and the folder in which it leaves its checkpoints."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import re
import selectors
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Self, TextIO

from orchestrator.errors import ObjectiveError

_SHIM = Path(__file__).with_name("shim.py")
_CHUNK_BYTES = 64 * 1024
_LONGEST_LINE = 1024 * 1024
_TAIL_BYTES = 64 * 1024
_LAST_LINES = 20
_SHOWN_CHARACTERS = 500
_LOOK_SECONDS = 0.5
# What comes at once is passed on up to this; then what comes this fast.
_BURST_BYTES = 1024 * 1024
_BYTES_PER_SECOND = 16 * 1024
_PIPE_BYTES = 4096
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class CommandProcess:
    """A command that runs under a shim (``shim.py``), which ends it when this process ends.

    Example:
        process = CommandProcess(["python", "train.py"], os.environ, folder)
        while not process.has_ended:
            print(process.read())
        process.close()

    Its output is passed on to this process's own, within limits: see :class:`PassedOn`.

    Args:
        arguments: the command.
        environment: all of its environment variables.
        folder: is removed if this process ends before the command.
        leave_seconds: between SIGTERM and SIGKILL, when it is stopped.

    Raises:
        RuntimeError: the program cannot be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        leave_seconds: float = 30.0,
    ) -> None:
        self._status = b""
        self._lines = _Lines()
        self._out, self._error = PassedOn(lambda: sys.stdout), PassedOn(lambda: sys.stderr)
        self._selector = selectors.DefaultSelector()
        watched, self._control = os.pipe()
        told, status = os.pipe()
        shim = [sys.executable, "-I", "-S", str(_SHIM), str(watched), str(status)]
        try:
            self._shim = subprocess.Popen(
                [*shim, str(leave_seconds), str(folder), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                pass_fds=(watched, status),
                start_new_session=True,  # signals to our process group are ours alone
                bufsize=0,
            )
        except BaseException:
            os.close(self._control)
            os.close(told)
            raise
        finally:
            os.close(watched)
            os.close(status)
        assert self._shim.stdout is not None and self._shim.stderr is not None
        self._told = told
        self._streams = (self._shim.stdout.fileno(), self._shim.stderr.fileno())
        _keep_short(self._streams[0])
        for each in (told, *self._streams):
            os.set_blocking(each, False)
            self._selector.register(each, selectors.EVENT_READ)

    @property
    def has_ended(self) -> bool:
        """Whether no process of the command is left, and all of its output is read."""
        return not self._selector.get_map()

    @property
    def exit_code(self) -> int:
        """The command's exit code, negative for a signal, once it has ended.

        Raises:
            RuntimeError: it could not be started, or nobody knows how it ended.
        """
        text = self._status.decode(errors="replace")
        try:
            return int(text)
        except ValueError:
            why = text or "the process that looks after it was killed"
            raise RuntimeError(f"the command has no exit code: {why}") from None

    def read(self, seconds: float = _LOOK_SECONDS) -> list[bytes]:
        """The lines that it has printed since, after waiting for at most this long."""
        lines: list[bytes] = []
        for key, _ in self._selector.select(seconds):
            if key.fd == self._told:
                self._take_status()
            else:
                lines += self._take(key.fd)
        self._out.show()
        self._error.show()
        if self._told not in self._selector.get_map():
            lines += self._drain()
        return lines

    def stop(self) -> None:
        """End it: SIGTERM to its process group, and later SIGKILL to what is left.

        Returns when nothing of it is left. Interrupted, it kills at once.
        """
        try:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._control, b"t")
            while not self.has_ended:
                self.read()
        finally:
            self.close()

    def close(self) -> None:
        """Free what belongs to it; what is left of the command is killed."""
        if self._control < 0:
            return
        os.close(self._control)
        self._control = -1
        for each in list(self._selector.get_map().values()):
            self._selector.unregister(each.fd)
        self._selector.close()
        os.close(self._told)
        self._shim.wait()
        for pipe in (self._shim.stdout, self._shim.stderr):
            assert pipe is not None
            pipe.close()
        self._out.close()
        self._error.close()

    def last_lines(self) -> list[str]:
        """The end of what it wrote on standard error, or else on standard output."""
        return self._error.last_lines() or self._out.last_lines()

    def _take_status(self) -> None:
        part = os.read(self._told, _CHUNK_BYTES)
        self._status += part
        if not part:
            self._selector.unregister(self._told)

    def _take(self, stream: int) -> list[bytes]:
        """One read of a stream. The lines of standard output that it ends."""
        try:
            part = os.read(stream, _CHUNK_BYTES)
        except BlockingIOError:
            return []
        is_output = stream == self._streams[0]
        (self._out if is_output else self._error).write(part)
        if part:
            return self._lines.add(part) if is_output else []
        self._selector.unregister(stream)
        return self._lines.rest() if is_output else []

    def _drain(self) -> list[bytes]:
        """What is left in the pipes. A process that has got away may hold them open."""
        lines: list[bytes] = []
        for stream in self._streams:
            while stream in self._selector.get_map():
                readable = [key.fd for key, _ in self._selector.select(0)]
                if stream in readable:
                    lines += self._take(stream)
                else:
                    self._selector.unregister(stream)
        return lines + self._lines.rest()


class _Lines:
    """Bytes cut into lines. Of a line that is too long, nothing is kept."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_too_long = False

    def add(self, part: bytes) -> list[bytes]:
        """The lines that end in this part."""
        head, newline, behind = part.partition(b"\n")
        if not self._is_too_long:
            self._rest += head
            self._is_too_long = len(self._rest) > _LONGEST_LINE
        if not newline:
            return []
        first = self.rest()
        *lines, rest = behind.split(b"\n")
        self._rest += rest
        return first + lines

    def rest(self) -> list[bytes]:
        """What has come since the last line's end."""
        line = [] if self._is_too_long else [bytes(self._rest)]
        self._rest.clear()
        self._is_too_long = False
        return line


class PassedOn:
    """Output of a command on its way to a stream of this process.

    A mebibyte passes at once. Of more than that, what comes slowly passes as well, and of what
    comes fast the newest part, so that a log stays readable and finite.

    Args:
        stream: says which; a notebook changes it.
    """

    def __init__(self, stream: Callable[[], TextIO | None]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = bytearray()
        self._tail = bytearray()
        self._left_out = 0
        self._allowance = float(_BURST_BYTES)
        self._at = time.monotonic()

    def write(self, part: bytes) -> None:
        """Take what the command has written."""
        self._held += part
        self._tail += part
        del self._tail[:-_TAIL_BYTES]
        self.show()
        if len(self._held) > self._allowance:
            excess = len(self._held) - _TAIL_BYTES
            if excess > 0:
                self._left_out += excess
                del self._held[:excess]

    def show(self) -> None:
        """Pass on what may pass now."""
        now = time.monotonic()
        gained = (now - self._at) * _BYTES_PER_SECOND
        self._at, self._allowance = now, min(float(_BURST_BYTES), self._allowance + gained)
        if len(self._held) <= self._allowance:
            self._pass_on()

    def close(self) -> None:
        """Pass on what is still held back."""
        self._pass_on(is_last=True)

    def last_lines(self) -> list[str]:
        """The last lines, as text without what a terminal obeys."""
        text = _ESCAPES.sub("", self._tail.decode(errors="replace").replace("\r", "\n"))
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return [line[:_SHOWN_CHARACTERS] for line in lines[-_LAST_LINES:]]

    def _pass_on(self, is_last: bool = False) -> None:
        stream = self._stream()
        text = self._decoder.decode(bytes(self._held), is_last)
        if self._left_out:
            text = f"\n[orch: {self._left_out:,} bytes of output are left out here]\n{text}"
        self._allowance -= len(self._held)
        self._left_out = 0
        self._held.clear()
        if text and stream is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or its disk is full
                stream.write(text)
                stream.flush()


def _keep_short(pipe: int) -> None:
    """Let the pipe hold little, so that a command is never far ahead of what is read of it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_BYTES)


class CheckpointFolder:
    """A temporary folder of one attempt; a context manager, which removes it.

    Files, folders and links that stay inside are copied; sockets and the like are not.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="orch-checkpoints-"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def size(self) -> int | None:
        """The bytes of its files; None: it holds no files."""
        sizes = [facts.st_size for _, facts in self._entries() if not stat.S_ISDIR(facts.st_mode)]
        return sum(sizes) if sizes else None

    def copy(self) -> bytes:
        """Everything in it, as a tar file."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, facts in self._entries():
                # What was renamed or removed meanwhile stands under another name, or nowhere.
                with contextlib.suppress(FileNotFoundError):
                    self._add(archive, path, facts)
        return buffer.getvalue()

    def fill(self, content: bytes) -> None:
        """Put a copy back. It comes from the database: nothing is written outside of the folder.

        Raises:
            ObjectiveError: it is damaged, or leads outside.
            OSError: the disk does not take it.
        """
        links: list[tuple[Path, str]] = []
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                for member in archive:
                    path = self._inside(member.name)
                    if member.isdir():
                        path.mkdir(parents=True, exist_ok=True)
                    elif member.issym():
                        links.append((path, member.linkname))
                    elif member.isreg():
                        self._write(path, archive, member)
        except tarfile.TarError as error:
            raise ObjectiveError(f"the checkpoint is damaged: {error}") from None
        for path, target in links:  # last, so that no file is written through one
            if _stays_inside(target):
                path.symlink_to(target)

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, folders, files in os.walk(self.path):
            for name in sorted(folders + files):
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    yield path, path.lstat()

    def _add(self, archive: tarfile.TarFile, path: Path, facts: os.stat_result) -> None:
        entry = tarfile.TarInfo(path.relative_to(self.path).as_posix())
        entry.mode = stat.S_IMODE(facts.st_mode)
        if stat.S_ISDIR(facts.st_mode):
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        elif stat.S_ISLNK(facts.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
            if _stays_inside(entry.linkname):
                archive.addfile(entry)
        elif stat.S_ISREG(facts.st_mode):
            with path.open("rb") as file:
                content = file.read(facts.st_size)  # it may be growing
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    def _inside(self, name: str) -> Path:
        if not _stays_inside(name):
            raise ObjectiveError(f"the checkpoint has a file outside of its folder: {name!r}")
        return self.path / name

    def _write(self, path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = archive.extractfile(member)
        assert file is not None
        path.write_bytes(file.read())
        path.chmod(member.mode & 0o777)


def _stays_inside(name: str) -> bool:
    """Whether a path is relative and never goes up."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
