"""The heartbeat: signs of life from a thread of its own, on a connection of its own."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from uuid import UUID

from orchestrator.errors import StorageError
from orchestrator.storage.database import Database
from orchestrator.worker.claim import Claims

_log = logging.getLogger("orch")


class Heartbeat:
    """Renews the worker's leases every ``seconds`` while the block runs."""

    def __init__(self, url: str, study_id: int, worker_id: UUID, seconds: float) -> None:
        self._database = Database(url)
        self._claims = Claims(self._database, study_id, worker_id)
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(timeout=5)
        self._database.close()

    def _beat(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._claims.renew()
            except StorageError as error:
                # The next beat opens a new connection; the lease outlives a few lost ones.
                _log.warning("heartbeat: %s", error)
