"""Endings: what an attempt costs that did not end its trial; ``attempts.sql`` is the server's part.

| what happened | what it costs |
|---|---|
| ``FAILED``: an exception, ``SystemExit``, out of memory | one attempt of ``worker.max_retries`` |
| ``CERTAIN``: ``FailedTrialError``, ``ParameterError`` | no further retry |
| ``MISUSED``: no trial can get around it | the study stops |
| ``MACHINE``: our files cannot be written, no GPU before the first step | the worker leaves |

The server adds two rows: the same exception at the same line in the first attempts of two
configurations is ``CERTAIN``, and a lost lease is counted apart. A trial that is left in order
costs nothing: its objective ends with a ``TrialLeft``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from orchestrator.base.printed import clip
from orchestrator.errors import FailedTrialError, OrchError, UsageError, WrongUse
from orchestrator.storage import storable
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database
from orchestrator.storage.storable import clean
from orchestrator.storage.url import hide
from orchestrator.training import builtin, command, command_process

# Where the code is that nobody has written for this study: orch, its objectives, Python, libraries.
_NOT_USERS = (
    Path(__file__).parents[1],
    *map(Path, builtin.__path__),
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")),
)
# Libraries of the user's home, of the system, or of another environment on the path.
_INSTALLED = {"site-packages", "dist-packages"}
# These depend on what else runs on the machine, so that they may not come again.
_PASSING = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError", "CommandKilled"}
_LONGEST_MESSAGE = 2_000
LONGEST_LOG = 20_000  # characters that are kept of the end of a trial's log
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# HDF5 tells no errno, but the words of the system.
_FULL_WORDS = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system")
_NO_GPU = re.compile(
    r"CUDA_ERROR_(NO_DEVICE|NOT_INITIALIZED|DEVICE_UNAVAILABLE|SYSTEM_\w+)|no CUDA-capable device"
    r"|CUDA-capable device\(s\) is/are busy or unavailable|No CUDA GPUs are available"
    r"|Found no NVIDIA driver|CUDA driver (version is insufficient|initialization failed)"
    r"|GPU is lost|fallen off the bus|Unable to initialize backend 'cuda'",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class End:
    """How a trial ends.

    Attributes:
        state: COMPLETE or PRUNED.
        values: one for each metric; None of a pruned trial without a value.
        attributes: user attributes that are recorded with it.
    """

    state: Literal["COMPLETE", "PRUNED"]
    values: list[float] | None
    attributes: dict[str, Any]


class Ending(StrEnum):
    """A row of the table above, by the name that the server knows."""

    FAILED = "failed"
    CERTAIN = "certain"
    MISUSED = "misused"
    MACHINE = "machine"


def ending_of(error: BaseException, has_trained: bool) -> Ending:
    """What an exception costs.

    Args:
        error: what came out of the objective.
        has_trained: the attempt has reported a value.
    """
    if isinstance(error, WrongUse):
        return Ending.MISUSED
    if isinstance(error, FailedTrialError) or _is_keras_tuners(error):
        return Ending.CERTAIN
    if not has_trained and isinstance(error, Exception) and _NO_GPU.search(words_of(error)):
        return Ending.MACHINE
    return Ending.FAILED


def signature_of(error: BaseException) -> str | None:
    """The exception's type and the user's line; without such a line, what the objective returned.

    None: the failure is not one to compare.
    """
    kind = type(error).__name__
    if kind in _PASSING:
        return None
    place = users_line(error)
    if place is not None:
        return f"{kind} {place[0]}:{place[1]}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and _is_check(Path(frames[-1].filename))
    words = words_of(error)
    return f"{kind} {words}" if ours and not any(each in words for each in _PASSING) else None


def _is_check(path: Path) -> bool:
    """Whether a source file is one that checks what an objective hands over."""
    checking = (Path(storable.__file__), Path(command.__file__))
    return path.parent == Path(__file__).parent or path in checking


def is_of_command(error: BaseException) -> bool:
    """Whether it tells how a command ended, or what was wrong with its output."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename in (command.__file__, command_process.__file__)


def users_line(error: BaseException) -> tuple[str, int] | None:
    """File and line of the user's own code that an exception came through last; None: of none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_users(Path(frame.filename))]
    return (Path(own[-1].filename).name, own[-1].lineno or 0) if own else None


def stopped_study(name: str, reason: str | None) -> UsageError:
    """What a worker of a study says that is stopped for wrong use."""
    # The same words in every worker, so that they are said once.
    return UsageError(f"study '{name}' is stopped: {reason}")


def reason_of(error: BaseException, url: str) -> str:
    """Why an attempt failed, in one line, with the user's file and line.

    Args:
        error: what the attempt ended with.
        url: the storage's. An objective finds it in its environment, and may fail with it.
    """
    words, place = words_of(error), users_line(error)
    where = f" ({place[0]}, line {place[1]})" if place else ""
    return hide(clean(f"{type(error).__name__}{f': {words}' if words else ''}{where}"), url)


def traceback_of(error: BaseException, url: str) -> list[str]:
    """The last lines of an exception's traceback, for the log; of a command, what it printed last.

    Args:
        error: the exception.
        url: the storage's, as in :func:`reason_of`.
    """
    # Of a failed command, a traceback shows lines of orch alone.
    notes = getattr(error, "__notes__", [])
    parts = notes if is_of_command(error) else traceback.format_exception(error)
    # Cut twice: a password that the first cut goes through must not show.
    whole = clean("".join(parts).strip())
    return hide(whole[-2 * LONGEST_LOG :], url)[-LONGEST_LOG:].splitlines()


def words_of(error: BaseException) -> str:
    """An exception's message in one line, for people: a library may put whole arrays into it."""
    try:
        text = " ".join(str(error).split())
    except Exception as another:  # the message is made by code of the user's, too
        return f"its message cannot be read ({type(another).__name__})"
    return clip(text, _LONGEST_MESSAGE)


@contextlib.contextmanager
def own_files(what: str) -> Iterator[None]:
    """A full disk while we write files of our own is this machine's fault, not the trial's.

    Raises:
        MachineFault: the disk is full or cannot be written.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise MachineFault(f"this machine cannot write {what}: {error}; free space") from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk takes nothing more."""
    return isinstance(error, OSError) and (
        error.errno in _FULL or bool(_FULL_WORDS.search(str(error)))
    )


def _is_keras_tuners(error: BaseException) -> bool:
    kind = type(error)
    return kind.__name__ == "FailedTrialError" and kind.__module__.startswith("keras_tuner.")


def is_users(path: Path) -> bool:
    """Whether a source file is the user's own, and no part of orch, Python or a library."""
    return (
        path.is_file()
        and not _INSTALLED & set(path.parts)
        and not any(path.is_relative_to(folder) for folder in _NOT_USERS)
    )


_log = logging.getLogger("orch")


class TrialLeft(BaseException):
    """The trial does not go on in this process. An objective must not catch it: no Exception."""


class TrialInterrupted(TrialLeft):
    """The worker was asked to leave; the trial is given back."""


class TrialPaused(TrialLeft):
    """The trial has ended its round, and waits for a promotion."""


class LeaseLost(TrialLeft):
    """The trial is no longer this worker's; whoever took it over knows better."""


class MachineFault(TrialLeft):
    """This machine cannot do the work; the trial is given back, and the worker ends."""


class DatabaseLost(TrialLeft):
    """The database stayed away too long; the trial is kept on this machine's disk."""


def abandon(url: str, study_id: int, token: UUID) -> None:
    """Give back whatever a worker that is ending at once still holds."""
    database = Database(url)
    try:
        claims = Claims(database, study_id, token)
        for trial_id in claims.leased():
            claims.release(trial_id)
        claims.leave()
    except OrchError as error:
        _log.warning("its trial is taken back after the grace period: %s", error)
    finally:
        database.close()
