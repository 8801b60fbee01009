"""A thread that works beside the training for as long as a block runs."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

_LAST_SECONDS = 2.0


class Background(ABC):
    """Starts its thread with the block and asks it to stop at its end.

    Args:
        name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=_LAST_SECONDS)

    @abstractmethod
    def _work(self) -> None:
        """The thread: waits on ``_changed``, returns once ``_stopped`` is set."""
