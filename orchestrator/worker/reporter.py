"""The reporter: heartbeats, reported and logged values, from a thread beside the training.

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
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

from optuna.exceptions import UpdateFinishedTrialError

from orchestrator.base.backoff import Backoff, retry
from orchestrator.errors import StorageError, StorageUnavailable, Unstorable
from orchestrator.spec.choices import read_domain
from orchestrator.storage.claims import Account, Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.storable import Logs
from orchestrator.storage.worker_storage import WorkerStorage

_LAST_SECONDS = 2.0
_log = logging.getLogger("orch")

# How long a report waits for its answer before training goes on without.
_ANSWER_SECONDS = 5.0
# How long a forked child of the objective goes on trying to deliver.
_CHILD_PATIENCE_SECONDS = 60.0


class Background(ABC):
    """A thread that works beside the training for as long as a block runs.

    It starts with the block, and is asked to stop at its end.

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


@dataclass(frozen=True)
class _Batch:
    """What is sent at once; without writes, a heartbeat. The rest is as ``Claims.write`` has it."""

    trial_id: int | None
    writes: Writes = field(default_factory=Writes)
    serial: int = 0
    after: int = 0
    wants_changes: bool = False


class Reporter(Background):
    """Runs while the block does.

    ``_changed`` guards all that changes. ``_trial_id``, ``_lost`` and ``_outage_began`` are also
    read without it: one reference each, and an old one does no harm, because a trial that learns
    one report later that its lease is lost or the database away trains one step more. A forked
    child of the objective has no reporter's thread, and never takes the lock, which may be held for
    ever there; ``_childs_storage`` is its own.

    Args:
        claims: the worker's.
        storage: told what others have changed.
        heartbeat_seconds: the longest silence.
    """

    def __init__(self, claims: Claims, storage: WorkerStorage, heartbeat_seconds: float) -> None:
        super().__init__("reporter")
        self._claims = claims
        self._storage = storage
        self._heartbeat_seconds = heartbeat_seconds
        self._process = os.getpid()
        self._trial_id: int | None = None
        self._pending = Writes()
        self._sent = Writes()
        self._serial = self._arrived = 0
        self._connections = 0
        self._is_closed = False
        self._wants_changes = False
        self._heartbeat_due = time.monotonic() + heartbeat_seconds
        self._lost = False
        self._outage_began: float | None = None
        self._broken: StorageError | None = None
        self._childs_storage: PostgresStorage | None = None

    @property
    def outage_seconds(self) -> float:
        """How long the database has been out of reach; 0: it answers."""
        began = self._outage_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def lost(self) -> bool:
        """Whether the trial's lease is gone, as far as is known."""
        return self._lost

    def is_running(self, trial_id: int) -> bool:
        """Whether what is written now is of this trial."""
        return trial_id == self._trial_id

    def start_trial(self, trial_id: int) -> None:
        """From now on what is written is of this trial."""
        self._set_trial(trial_id)

    def finish_trial(self) -> None:
        """No trial is running; heartbeats go on."""
        self._set_trial(None)

    def _set_trial(self, trial_id: int | None) -> None:
        with self._changed:
            self._trial_id, self._lost, self._is_closed = trial_id, False, False
            self._pending, self._sent = Writes(), Writes()
            self._serial = self._arrived = 0
            self._connections = self._claims.connections
            self._wants_changes = False
            if isinstance(self._broken, Unstorable):
                self._broken = None  # the next trial's writes may be stored

    def close_trial(self) -> Account:
        """All that the trial wrote, delivered or not, to go with its end.

        What is not delivered yet is not delivered by itself any more.
        """
        with self._changed:
            self._is_closed = True
            everything = self._sent.copy()
            everything.add(self._pending)
            return Account(everything, self._pending.copy(), self._arrived)

    def undelivered(self, trial_id: int) -> Writes:
        """What this trial wrote, if it is the running one, that is not known to have arrived."""
        with self._changed:
            return self._pending.copy() if trial_id == self._trial_id else Writes()

    def write_param(self, name: str, value: float, distribution: str) -> None:
        """Send a parameter."""
        if self._is_forked():
            domain = read_domain(distribution)
            self._write_from_child(PostgresStorage.set_trial_param, name, value, domain)
            return
        with self._changed:
            self._pending.params[name] = (value, distribution)
            self._changed.notify_all()

    def write_user_attribute(self, key: str, value: str) -> None:
        """Send a user attribute (JSON)."""
        if self._is_forked():
            self._write_from_child(PostgresStorage.set_trial_user_attr, key, json.loads(value))
            return
        with self._changed:
            self._pending.user_attributes[key] = value
            self._changed.notify_all()

    def write_system_attribute(self, key: str, value: str) -> None:
        """Send a system attribute (JSON), unless that is how it was sent already."""
        if self._is_forked():
            self._write_from_child(PostgresStorage.set_trial_system_attr, key, json.loads(value))
            return
        with self._changed:
            if self._sent.system_attributes.get(key) != value:
                self._pending.system_attributes[key] = value
                self._changed.notify_all()

    def post(self, step: int, value: float) -> None:
        """Send a value, and do not wait for its arrival.

        Raises:
            StorageError: the database answers, but can never take what the trial wrote.
        """
        if self._is_forked():
            self._write_from_child(PostgresStorage.set_trial_intermediate_value, step, value)
            return
        with self._changed:
            self._pending.values[step] = value
            self._changed.notify_all()
            self._raise_if_broken()

    def log(self, logs: Logs) -> None:
        """Send what is logged, with the step's value; without one, with the next heartbeat.

        Args:
            logs: values by step and name.

        Raises:
            StorageError: the database answers, but can never take what the trial wrote.
        """
        if self._is_forked():
            self._write_from_child(PostgresStorage.set_trial_logs, logs)
            return
        with self._changed:
            self._pending.logs.update(logs)  # the thread is not woken: the value follows
            self._raise_if_broken()

    def send(self, step: int, value: float) -> bool:
        """Send a value, and wait until it has arrived and what others did is known here.

        Raises:
            StorageError: the database answers, but can never take what the trial wrote.

        Returns:
            Whether it has arrived. False: the database is out of reach and the value is kept, or
            the lease is gone (:attr:`lost`).
        """
        if self._is_forked():
            self.post(step, value)
            self._storage.sync()
            return not self._lost
        with self._changed:
            self._pending.values[step] = value
            self._wants_changes = True
            self._changed.notify_all()
            self._changed.wait_for(self._is_settled, _ANSWER_SECONDS)
            self._raise_if_broken()
            return not (self._lost or self._pending)

    def _is_settled(self) -> bool:
        return (
            not self._pending
            or self._lost
            or self._broken is not None
            or self._outage_began is not None
        )

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    # In a forked child of the worker's process

    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    def _write_from_child(self, write: Callable[..., None], *arguments: Any) -> None:
        """Write to the trial from a forked child, on a connection of its own.

        The server notes that somebody else than the trial's worker has written to it, so the worker
        learns of it with the trial's end.
        """
        trial_id = self._trial_id
        if trial_id is None:
            return
        if self._childs_storage is None:
            self._childs_storage = PostgresStorage(Database(self._claims.url))
        call = partial(write, self._childs_storage, trial_id, *arguments)
        try:
            retry(call, _CHILD_PATIENCE_SECONDS)
        except UpdateFinishedTrialError:
            self._lost = True

    # The thread

    def _work(self) -> None:
        # Once the database answers, a heartbeat must come within the grace period.
        backoff = Backoff(longest=min(5.0, self._heartbeat_seconds))
        while self._wait(backoff):
            batch = self._batch()
            try:
                self._send(batch)
                backoff.reset()
            except StorageUnavailable as error:
                self._note_outage(error)
            except Unstorable as error:
                with self._changed:
                    if batch.trial_id == self._trial_id:
                        self._broken = error
                    self._changed.notify_all()
            except StorageError as error:
                with self._changed:
                    self._broken = error
                    self._changed.notify_all()
                return

    def _wait(self, backoff: Backoff) -> bool:
        """Until there is something to send, or a heartbeat is due. False: the work is done."""
        with self._changed:
            if self._outage_began is not None:
                self._changed.wait_for(lambda: self._stopped, backoff.next_seconds())
            else:
                left = max(0.0, self._heartbeat_due - time.monotonic())
                self._changed.wait_for(lambda: self._stopped or self._has_to_send(), left)
            return not self._stopped

    def _has_to_send(self) -> bool:
        can_be_sent = self._trial_id is not None and not self._is_closed and self._broken is None
        return can_be_sent and bool(self._pending)

    def _batch(self) -> _Batch:
        with self._changed:
            if not self._has_to_send():
                return _Batch(self._trial_id)
            self._serial += 1
            return _Batch(
                self._trial_id,
                self._pending.copy(),
                self._serial,
                after=self._arrived,
                wants_changes=self._wants_changes,
            )

    def _send(self, batch: _Batch) -> None:
        """Send a batch; an empty one is a heartbeat."""
        changes = None
        if batch.trial_id is None or not batch.writes:
            leased = self._claims.renew()
            held = batch.trial_id is None or batch.trial_id in leased
        else:
            held, changes = self._claims.write(
                batch.trial_id,
                batch.writes,
                durable=False,
                since=self._storage.position if batch.wants_changes else None,
                serial=batch.serial,
                after=batch.after,
            )
        if changes is not None:
            self._storage.take(changes)
        with self._changed:
            self._heartbeat_due = time.monotonic() + self._heartbeat_seconds
            if self._outage_began is not None:
                _log.info("the database answers again after %.1f s", self.outage_seconds)
                self._outage_began = None
            if batch.trial_id is not None and batch.trial_id == self._trial_id:
                self._lost = self._lost or not held
                self._note_arrival(batch, with_changes=changes is not None)
            self._changed.notify_all()
        if batch.trial_id is None:
            self._claims.disconnect()  # a worker that waits for work needs no connection

    def _note_arrival(self, batch: _Batch, with_changes: bool) -> None:
        if batch.writes:
            self._sent.add(batch.writes)
            self._pending.remove(batch.writes)
            self._arrived = batch.serial
            self._wants_changes = self._wants_changes and not with_changes
        if self._claims.connections != self._connections:
            # Another thread has met an outage, maybe a crash that lost what had arrived before.
            self._connections = self._claims.connections
            self._send_all_again()

    def _note_outage(self, error: StorageError) -> None:
        with self._changed:
            if self._outage_began is None:
                self._outage_began = time.monotonic()
                self._connections = self._claims.connections + 1  # this thread opens the next
                self._send_all_again()
                _log.warning("training goes on without the database: %s", error)
            self._changed.notify_all()

    def _send_all_again(self) -> None:
        # A server that crashed may have lost what it had taken.
        self._sent.add(self._pending)
        self._pending, self._sent, self._arrived = self._sent, Writes(), 0
