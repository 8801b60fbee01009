"""The reporter: signs of life and reported values, from a thread and a connection of its own.

Training never waits for the database longer than a moment. While the database is out of reach the
values are kept in their order; once it answers they are delivered in one statement that can be
repeated without harm, so each arrives exactly once. They are not waited for on the server's disk:
a crash of the server may lose the newest. So the reporter keeps all that the trial wrote; after an
outage it sends all of it again, and so does the trial's end.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from uuid import UUID

from optuna.exceptions import UpdateFinishedTrialError

from orchestrator.base.backoff import patiently
from orchestrator.errors import StorageError, StorageUnavailable, Unstorable
from orchestrator.spec.choices import read_domain
from orchestrator.storage.claims import Account, Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.worker.background import Background

_log = logging.getLogger("orch")

# How long a report waits for its delivery before training goes on without.
_ANSWER_SECONDS = 5.0
# What nobody waits for is sent so much later, with what came meanwhile.
_GATHER_SECONDS = 0.005
# A decision need not ask again for what others did when the worker was told so short a time ago:
# their own values may be on their way for as long.
_FRESH_SECONDS = 0.005
# How long a forked child of the objective goes on trying to deliver.
_CHILD_PATIENCE_SECONDS = 60.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.2, 5.0


class Reporter(Background):
    """Runs while the block does.

    Args:
        url: the database.
        study_id: the study.
        worker_id: whose leases are renewed.
        beat_seconds: the longest silence.
    """

    def __init__(self, url: str, study_id: int, worker_id: UUID, beat_seconds: float) -> None:
        super().__init__("reporter")
        self._database = Database(url)
        self._claims = Claims(self._database, study_id, worker_id)
        self._beat_seconds = beat_seconds
        self._trial_id: int | None = None
        self._process = os.getpid()
        self._beside: PostgresStorage | None = None
        self._pending = Writes()
        self._sent = Writes()
        self._serial = self._arrived = 0
        self._collected = False
        self._storage: WorkerStorage | None = None
        self._wants_changes = False
        self._urgent = False
        self._watches = False  # it looks by itself whether there is something to send
        self._oldest = 0.0  # when the oldest pending write was made
        self._beat_due = time.monotonic() + beat_seconds
        self._held = True
        self._outage_began: float | None = None
        self._broken: StorageError | None = None

    def feed(self, storage: WorkerStorage) -> None:
        """From now on what others changed is handed to this storage."""
        self._storage = storage

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

    def is_running(self, trial_id: int) -> bool:
        """Whether what is written now is of this trial."""
        return trial_id == self._trial_id

    def begin(self, trial_id: int) -> None:
        """From now on what is written is of this trial."""
        self._start(trial_id)

    def end(self) -> None:
        """No trial is running; signs of life go on."""
        self._start(None)

    def _start(self, trial_id: int | None) -> None:
        with self._changed:
            self._trial_id, self._held, self._collected = trial_id, True, False
            self._pending, self._sent = Writes(), Writes()
            self._serial = self._arrived = 0
            if isinstance(self._broken, Unstorable):
                self._broken = None  # the next trial's writes may be stored

    def collect(self) -> Account:
        """All that the trial wrote, delivered or not, to go with its end.

        What is not delivered yet is not delivered by itself any more.
        """
        with self._changed:
            self._collected = True
            everything = self._sent.copy()
            everything.add(self._pending)
            return Account(everything, self._pending.copy(), self._arrived)

    def undelivered(self, trial_id: int) -> Writes:
        """What this trial wrote, if it is the running one, that is not known to have arrived."""
        with self._changed:
            return self._pending.copy() if trial_id == self._trial_id else Writes()

    def write_param(self, name: str, value: float, distribution: str) -> None:
        """Send a parameter, with the next value or a moment later."""
        if self._is_forked():
            domain = read_domain(distribution)
            self._from_child(lambda to, trial: to.set_trial_param(trial, name, value, domain))
            return
        self._write(lambda pending: pending.params.update({name: (value, distribution)}))

    def write_user_attribute(self, key: str, value: str) -> None:
        """Send a user attribute (JSON), with the next value or a moment later."""
        if self._is_forked():
            found = json.loads(value)
            self._from_child(lambda to, trial: to.set_trial_user_attr(trial, key, found))
            return
        self._write(lambda pending: pending.user_attributes.update({key: value}))

    def write_system_attribute(self, key: str, value: str) -> None:
        """Send a system attribute (JSON), with the next value or a moment later."""
        if self._is_forked():
            found = json.loads(value)
            self._from_child(lambda to, trial: to.set_trial_system_attr(trial, key, found))
        elif self._sent.system_attributes.get(key) != value:
            self._write(lambda pending: pending.system_attributes.update({key: value}))

    def _write(self, change: Callable[[Writes], None]) -> None:
        with self._changed:
            if not self._pending:
                self._oldest = time.monotonic()
                if not self._watches:
                    self._changed.notify_all()
            change(self._pending)

    def post(self, step: int, value: float) -> None:
        """Send a value that nobody waits for: a moment later, or with the next that is delivered.

        Raises:
            StorageError: the database answers, but can never take it.
        """
        if self._is_forked():
            self._value_from_child(step, value)
            return
        self._write(lambda pending: pending.values.update({step: value}))
        if self._broken is not None:
            raise self._broken

    def deliver_for_decision(self, step: int, value: float) -> bool:
        """Send a value that the pruner decides about, with what it notes and what it reads.

        Raises:
            StorageError: the database answers, but can never take it.

        Returns:
            Whether what others did is known here as of now. False: as for :meth:`deliver`.
        """
        storage = self._storage
        if storage is None or storage.age_seconds > _FRESH_SECONDS:
            return self.deliver(step, value, changes=True)
        self.post(step, value)
        return self._outage_began is None and self._held

    def deliver(self, step: int, value: float, changes: bool = False) -> bool:
        """Send a value, and wait until it has arrived.

        Args:
            step: the value's step.
            value: the value.
            changes: ask for what others have changed, too.

        Raises:
            StorageError: the database answers, but can never take it.

        Returns:
            Whether it has arrived. False: the database is out of reach and the value is kept, or
            the lease is gone (:attr:`held`).
        """
        if self._is_forked():
            self._value_from_child(step, value)
            if changes and self._storage is not None:
                self._storage.sync()
            return self._held
        with self._changed:
            self._pending.values[step] = value
            self._wants_changes = self._wants_changes or changes
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._settled() or self._outage_began is not None, _ANSWER_SECONDS
            )
            return self._delivered()

    def _is_forked(self) -> bool:
        """Whether this is a child of the worker's process, which has no reporter's thread."""
        return os.getpid() != self._process

    def _value_from_child(self, step: int, value: float) -> None:
        self._from_child(lambda to, trial: to.set_trial_intermediate_value(trial, step, value))

    def _from_child(self, write: Callable[[PostgresStorage, int], None]) -> None:
        """Write to the trial from a forked child, on a connection of its own.

        The server notes that somebody else than the trial's worker has written to it, so the worker
        learns of it with the trial's end.
        """
        trial = self._trial_id
        if trial is None:
            return
        if self._beside is None:
            self._beside = PostgresStorage(Database(self._database.url))
        to = self._beside
        try:
            patiently(lambda: write(to, trial), _CHILD_PATIENCE_SECONDS)
        except UpdateFinishedTrialError:
            self._held = False

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
                due = self._wait(pause)
                if self._stopped:
                    return
                trial_id, batch = self._trial_id, self._batch()
            if not due:
                continue
            try:
                self._send(trial_id, batch)
                pause = _FIRST_RETRY_SECONDS
            except StorageUnavailable as error:
                self._outage(error)
                # Once it answers, a sign of life must come within the grace period.
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS, self._beat_seconds)
            except StorageError as error:
                of_the_data = isinstance(error, Unstorable)
                with self._changed:
                    if not of_the_data or trial_id == self._trial_id:
                        self._broken = error
                    self._changed.notify_all()
                if not of_the_data:
                    return

    def _wait(self, pause: float) -> bool:
        """Until there is something to send, or a sign of life is due. False: neither, after all."""
        if self._outage_began is not None:
            self._changed.wait_for(lambda: self._stopped, pause)
            return True
        last = self._oldest
        if not self._changed.wait_for(
            # Of a short trial nothing may be left to send by the time that this thread runs.
            lambda: self._stopped or self._sendable() or self._oldest != last,
            max(0.0, self._beat_due - time.monotonic()),
        ):
            return True
        self._watches = True
        try:
            self._watch()
        finally:
            self._watches = False
        return self._sendable() or time.monotonic() >= self._beat_due

    def _watch(self) -> None:
        """Until what is written has waited long enough, or nothing more is written.

        Trials that take no time begin to write and end within that, one after another; to be woken
        by each would cost them more than their writes.
        """
        seen, left = self._oldest, _GATHER_SECONDS
        while not self._changed.wait_for(lambda: self._stopped or self._urgent, left):
            if self._sendable():
                left = self._oldest + _GATHER_SECONDS - time.monotonic()
                if left <= 0:
                    return
            elif seen == self._oldest:
                return
            else:
                seen, left = self._oldest, _GATHER_SECONDS

    def _sendable(self) -> bool:
        return bool(self._pending) and not self._collected and self._broken is None

    def _batch(self) -> Writes:
        self._urgent = False
        return self._pending.copy() if self._sendable() else Writes()

    def _send(self, trial_id: int | None, batch: Writes) -> None:
        storage, changes = self._storage, None
        if trial_id is None or not batch:
            kept = self._claims.renew()
            held = trial_id is None or trial_id in kept
        else:
            self._serial += 1
            held, changes = self._claims.write(
                trial_id,
                batch,
                durable=False,
                since=storage.cursor if storage is not None and self._wants_changes else None,
                serial=self._serial,
                after=self._arrived,
            )
        if storage is not None and changes is not None:
            storage.take(changes)
        with self._changed:
            self._beat_due = time.monotonic() + self._beat_seconds
            if self._outage_began is not None:
                _log.info("the database answers again after %.1f s", self.outage_seconds)
                self._outage_began = None
            if trial_id == self._trial_id:
                self._held = self._held and held
                self._sent.add(batch)
                self._pending.remove(batch)
                self._arrived = self._serial
                self._wants_changes = self._wants_changes and changes is None
            self._changed.notify_all()

    def _outage(self, error: StorageError) -> None:
        with self._changed:
            if self._outage_began is None:
                self._outage_began = time.monotonic()
                # A server that crashed may have lost what it had taken.
                self._sent.add(self._pending)
                self._pending, self._sent, self._arrived = self._sent, Writes(), 0
                _log.warning("training goes on without the database: %s", error)
            self._changed.notify_all()
