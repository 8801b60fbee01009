"""The pause of an idle worker before it asks again, long enough to spare the server."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

_random = random.Random()  # not the process's: an objective may have seeded that one
_FIRST_SECONDS, _LONGEST_SECONDS = 0.1, 2.0


class Pause:
    """Waits that grow, a little different for each worker, so that they do not ask in step."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """There was work: the next wait is a short one."""
        self._seconds = _FIRST_SECONDS

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait, but no longer than ``until`` tells."""
        end = time.monotonic() + self._seconds * _random.uniform(0.7, 1.3)
        while time.monotonic() < end and not until():
            time.sleep(0.05)
        self._seconds = min(self._seconds * 1.5, _LONGEST_SECONDS)
