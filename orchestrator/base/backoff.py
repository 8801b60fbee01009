"""Waiting with growing, jittered pauses: for a database that is away, and for work to do."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import PatienceExceeded, StorageUnavailable

_log = logging.getLogger("orch")

Result = TypeVar("Result")

_random = random.Random()  # not the process's: an objective may have seeded that one
_FIRST_SECONDS, _LONGEST_SECONDS, _GROWTH = 0.2, 5.0, 1.6
_SLICE_SECONDS = 0.05


class Stop:
    """Tells a worker to end: somebody has asked it to, or its time is up.

    One plain bool that is set once. No ``threading.Event``: a signal handler that sets one waits
    for the lock that the main thread, which it has interrupted, may hold in ``Event.wait``.

    Args:
        deadline: a time of ``time.monotonic``; none unless told.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.asked = False
        self._deadline = deadline

    @property
    def is_due(self) -> bool:
        """Whether no further trial is to be started."""
        return self.asked or time.monotonic() >= self._deadline


class Backoff:
    """Pauses that grow, a little different for each process, so that they do not ask in step.

    Args:
        first: the first pause in seconds.
        longest: no pause is longer than this, but for the difference.
    """

    def __init__(self, first: float = _FIRST_SECONDS, longest: float = _LONGEST_SECONDS) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def reset(self) -> None:
        """It worked: the next pause is a short one."""
        self._next = self._first

    def next_seconds(self) -> float:
        """The next pause."""
        seconds = min(self._next, self._longest)
        self._next = seconds * _GROWTH
        return seconds * _random.uniform(0.7, 1.3)

    def wait(self, stop: Stop | None = None, until: float = math.inf) -> None:
        """Sleep for the next pause, but not beyond a time, and not once somebody asks to end."""
        end = min(time.monotonic() + self.next_seconds(), until)
        while (left := end - time.monotonic()) > 0 and not (stop is not None and stop.asked):
            time.sleep(min(left, _SLICE_SECONDS))


def retry(call: Callable[[], Result], patience_seconds: float, stop: Stop | None = None) -> Result:
    """Call until the database answers.

    Args:
        call: may be repeated without harm.
        patience_seconds: how long to go on trying.
        stop: once it is asked, nothing is waited for.

    Raises:
        PatienceExceeded: it did not answer in time.
        StorageError: it answers, but what is asked of it can never work.
    """
    deadline = time.monotonic() + patience_seconds
    backoff = Backoff()
    said = False
    while True:
        try:
            return call()
        except StorageUnavailable as error:
            reason = " ".join(str(error).split())
            if time.monotonic() >= deadline or (stop is not None and stop.asked):
                raise PatienceExceeded(f"the storage is out of reach: {reason}") from error
            if not said:
                _log.warning("waiting for the database: %s", reason)
                said = True
        backoff.wait(stop, until=deadline)
