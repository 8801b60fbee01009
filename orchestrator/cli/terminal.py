"""The terminal of the ``orch`` command: the signs that it has, TensorFlow's silence, and Ctrl-C."""

from __future__ import annotations

import codecs
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, BinaryIO, TextIO

from orchestrator.errors import OrchError

if TYPE_CHECKING:
    from orchestrator import Study

_HANDLER = "orch.plain"
# Braille dots of the upper and of the lower half of a character (report/text.py).
_UPPER, _LOWER = 0x01 | 0x02 | 0x08 | 0x10, 0x04 | 0x20 | 0x40 | 0x80
_PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": ".", "•": "*", "×": "x", "±": "+/-",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "↑": "^", "↓": "v",
    "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " ", "∞": "inf",
    **dict(zip("▁▂▃▄▅▆▇█", "_.-=+*%#", strict=True)),
}  # fmt: skip
_VERTICAL = "│┃║┤├┆┊"


def make_encodable() -> None:
    """Let what this process prints never fail for a sign that its encoding does not have.

    Plain signs stand for those of a report; of names in other scripts, escapes.
    """
    codecs.register_error(_HANDLER, _plain)
    sys.stdout = _encodable(sys.stdout)
    sys.stderr = _encodable(sys.stderr)


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream has every sign."""
    return _name(stream).lower().replace("_", "-").startswith("utf")


def print_document(content: str, form: str) -> None:
    """Print a report so that whatever reads it understands it, also without every sign."""
    if not is_unicode(sys.stdout):
        if form == "json":
            content = json.dumps(json.loads(content), indent=2) + "\n"
        if form == "html":
            content = content.encode("ascii", "xmlcharrefreplace").decode("ascii")
    sys.stdout.write(content)


class _PlainAscii(io.TextIOWrapper):
    """ASCII under a name of its own: typer writes UTF-8 to a stream that calls itself ASCII."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "ascii-plain"


def _encodable(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, _PlainAscii):
        return stream  # a test's or a notebook's own
    if codecs.lookup(stream.encoding).name == "ascii":
        stream.flush()
        return _writer(stream.buffer, "ascii", stream.line_buffering)
    stream.reconfigure(errors=_HANDLER)
    return stream


def _writer(buffer: BinaryIO, encoding: str, line_buffering: bool) -> TextIO:
    kind = _PlainAscii if codecs.lookup(encoding).name == "ascii" else io.TextIOWrapper
    return kind(buffer, encoding, _HANDLER, line_buffering=line_buffering)


def _name(stream: TextIO) -> str:
    name = stream.encoding or "ascii"
    return "ascii" if name == "ascii-plain" else name


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_sign, error.object[error.start : error.end])), error.end


def _sign(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    code = ord(character)
    if 0x2800 <= code <= 0x28FF:
        dots = code - 0x2800
        return ("", ".", "'", ":")[2 * bool(dots & _UPPER) + bool(dots & _LOWER)] or " "
    if 0x2500 <= code <= 0x257F:
        return "|" if character in _VERTICAL else "-" if character in "─━═" else "+"
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        return "?"
    return character.encode("ascii", "backslashreplace").decode("ascii")


# TensorFlow's news of its start, kept from the terminal of the ``orch`` command.
#
# Its C++ parts write them while they are loaded, before they look at ``TF_CPP_MIN_LOG_LEVEL``,
# and a user's module may import TensorFlow. Only that import is silent: what a user's module
# writes, to whatever descriptor, reaches the terminal.

_STDERR = 2
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def quieten_tensorflow() -> None:
    """Let TensorFlow load without its news in this process, which is a command's."""
    sys.meta_path.insert(0, _Finder())


def quieten_choices() -> None:
    """Let Optuna's own storage read choices that are lists or dicts without a warning of each.

    For a command that serves until Ctrl-C and runs nobody else's code.
    """
    warnings.filterwarnings(
        "ignore", "Choices for a categorical distribution should be", UserWarning
    )


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        with _silent(), _fatal_alone():
            self._loader.exec_module(module)
        if _LEVEL not in os.environ:  # as of workers: it warns of each network that it traces anew
            logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextmanager
def _silent() -> Iterator[None]:
    try:
        terminal = os.dup(_STDERR)
    except OSError:  # closed by whoever started us
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(terminal, _STDERR)
        os.close(nowhere)
        os.close(terminal)


@contextmanager
def _fatal_alone() -> Iterator[None]:
    """Load TensorFlow at the highest level: a missing GPU is not an error for a command."""
    if _LEVEL in os.environ:
        yield
        return
    os.environ[_LEVEL] = "3"
    try:
        yield
    finally:
        os.environ.pop(_LEVEL, None)  # our workers have a level of their own


INTERRUPTED = 130


@contextmanager
def interrupts() -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP are a KeyboardInterrupt, as Ctrl-C is."""
    handled = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        handled.append(signal.SIGHUP)
    before = {each: signal.signal(each, _interrupt) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def say_stopped(find: Callable[[], Study], rest: str) -> int:
    """Say that the user stopped the workers, and what remains to be done, if anything.

    Args:
        find: the study.
        rest: what to say where it is not done.

    Returns:
        The exit code.
    """
    try:
        study = find()
        if study.state == "done":
            done = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)
            rest = (
                f"study {study.name} is done, with {done} of {study.spec.study.trials} trials; "
                f"see what it found with: orch report {study.name}"
            )
    except OrchError:
        pass  # the storage may be what it was stopped for
    print(f"stopped; {rest}", file=sys.stderr, flush=True)
    return INTERRUPTED
