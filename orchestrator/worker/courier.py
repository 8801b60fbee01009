"""The courier: signs of life and reported values, from a thread and a connection of its own.

Training never waits for the database longer than a moment. While the database is out of reach the
values are kept in their order; once it answers they are delivered in one statement that can be
repeated without harm, so each arrives exactly once.
"""

from __future__ import annotations

import logging
import math
import time
from uuid import UUID

from orchestrator.errors import StorageError, StorageUnavailable
from orchestrator.storage.database import Database
from orchestrator.worker.background import Background
from orchestrator.worker.claim import Claims

_log = logging.getLogger("orch")

# How long a report waits for its delivery before training goes on without.
_ANSWER_SECONDS = 5.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.2, 5.0


class Courier(Background):
    """Runs while the block does.

    Args:
        url: the database.
        study_id: the study.
        worker_id: whose leases are renewed.
        beat_seconds: the longest silence.
    """

    def __init__(self, url: str, study_id: int, worker_id: UUID, beat_seconds: float) -> None:
        super().__init__("courier")
        self._database = Database(url)
        self._claims = Claims(self._database, study_id, worker_id)
        self._beat_seconds = beat_seconds
        self._trial_id: int | None = None
        self._pending: dict[int, float] = {}
        self._held = True
        self._outage_began: float | None = None
        self._broken: StorageError | None = None

    def close(self) -> None:
        """Close the connection, after the block."""
        self._database.close()

    @property
    def outage_seconds(self) -> float:
        """How long the database has been out of reach; 0: it answers."""
        began = self._outage_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def held(self) -> bool:
        """Whether the trial is still this worker's, as far as is known."""
        return self._held

    @property
    def pending(self) -> dict[int, float]:
        """The values, by step, that are not delivered yet."""
        with self._changed:
            return dict(self._pending)

    def begin(self, trial_id: int) -> None:
        """From now on values are of this trial."""
        with self._changed:
            self._trial_id, self._pending, self._held = trial_id, {}, True

    def end(self) -> None:
        """No trial is running; signs of life go on."""
        with self._changed:
            self._trial_id, self._pending = None, {}

    def deliver(self, step: int, value: float) -> bool:
        """Send a value.

        Raises:
            StorageError: the database answers, but can never take it.

        Returns:
            Whether it has arrived. False: the database is out of reach and the value is kept, or
            the lease is gone (:attr:`held`).
        """
        with self._changed:
            self._pending[step] = value
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._settled() or self._outage_began is not None, _ANSWER_SECONDS
            )
            return self._delivered()

    def drain(self, seconds: float) -> bool:
        """Wait until every value has arrived. Returns whether it has.

        Raises:
            StorageError: the database answers, but can never take them.
        """
        with self._changed:
            self._changed.wait_for(self._settled, timeout=seconds)
            return self._delivered()

    def _settled(self) -> bool:
        return not self._pending or not self._held or self._broken is not None

    def _delivered(self) -> bool:
        if self._broken is not None:
            raise self._broken
        return self._held and not self._pending

    def _work(self) -> None:
        pause = _FIRST_RETRY_SECONDS
        while True:
            with self._changed:
                wait = pause if self._outage_began else self._beat_seconds
                self._changed.wait_for(
                    lambda: self._stopped or (self._pending and not self._outage_began), wait
                )
                if self._stopped:
                    return
                trial_id, batch = self._trial_id, dict(self._pending)
            try:
                self._send(trial_id, batch)
                pause = _FIRST_RETRY_SECONDS
            except StorageUnavailable as error:
                self._outage(error)
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS)
            except StorageError as error:
                with self._changed:
                    self._broken = error
                    self._changed.notify_all()
                return

    def _send(self, trial_id: int | None, batch: dict[int, float]) -> None:
        if trial_id is None or not batch:
            kept = self._claims.renew()
            held = trial_id is None or trial_id in kept
        else:
            held = self._claims.report(trial_id, batch)
        with self._changed:
            if self._outage_began is not None:
                _log.info("the database answers again after %.1f s", self.outage_seconds)
                self._outage_began = None
            if trial_id == self._trial_id:
                self._held = self._held and held
                for step, value in batch.items():
                    # A NaN is not equal to itself, but it is the same value.
                    sent = self._pending.get(step)
                    if sent == value or (sent is not None and math.isnan(sent)):
                        del self._pending[step]
            self._changed.notify_all()

    def _outage(self, error: StorageError) -> None:
        with self._changed:
            if self._outage_began is None:
                self._outage_began = time.monotonic()
                _log.warning("training goes on without the database: %s", error)
            self._changed.notify_all()
