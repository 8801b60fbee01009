"""Waiting with growing, jittered pauses: for a database that is away, and for work to do."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import PatienceExceeded, StorageUnavailable

_log = logging.getLogger("orch")

Result = TypeVar("Result")

_random = random.Random()  # not the process's: an objective may have seeded that one
_FIRST_SECONDS, _LONGEST_SECONDS = 0.2, 5.0


def patiently(
    call: Callable[[], Result], seconds: float, give_up: Callable[[], bool] = lambda: False
) -> Result:
    """Call until the database answers.

    Args:
        call: may be repeated without harm.
        seconds: how long to go on trying.
        give_up: tells that there is no use in waiting any longer, as in a worker that must leave.

    Raises:
        PatienceExceeded: it did not answer in time.
        StorageError: it answers, but what is asked of it can never work.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_SECONDS
    said = False
    while True:
        try:
            return call()
        except StorageUnavailable as error:
            reason = " ".join(str(error).split())
            if time.monotonic() >= deadline or give_up():
                raise PatienceExceeded(f"the storage is out of reach: {reason}") from error
            if not said:
                _log.warning("waiting for the database: %s", reason)
                said = True
        # A little different for each worker, so that a server that comes back is not stormed.
        time.sleep(min(pause, max(0.05, deadline - time.monotonic())) * _random.uniform(0.7, 1.3))
        pause = min(pause * 1.6, _LONGEST_SECONDS)


_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0


class Pause:
    """Waits that grow, a little different for each worker, so that they do not ask in step."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """There was work: the next wait is a short one."""
        self._seconds = _FIRST_PAUSE_SECONDS

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait, but no longer than ``until`` tells."""
        end = time.monotonic() + self._seconds * _random.uniform(0.7, 1.3)
        while time.monotonic() < end and not until():
            time.sleep(0.05)
        self._seconds = min(self._seconds * 1.5, _LONGEST_PAUSE_SECONDS)
