"""The local supervisor: keeps K worker processes at work, and lets none outlive it."""

from __future__ import annotations

import contextlib
import math
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from orchestrator.base import facts
from orchestrator.base.backoff import Backoff
from orchestrator.base.files import check_writable, home, remove_old
from orchestrator.errors import OrchError, StorageError, StorageUnavailable, UsageError
from orchestrator.storage.claims import Claims, worker_id
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy
from orchestrator.worker.checkpoints import saved_files
from orchestrator.worker.output import TrialOutput
from orchestrator.worker.process import (
    Exit,
    WorkerProcess,
    cores,
    default_workers,
    describe_exit,
    divide_threads,
    parse_gpus,
)

# How a process of ours ends by itself, if it holds no trial.
_FINAL_CODES = {Exit.DONE, Exit.FAILED, Exit.MISUSED, Exit.NO_STORAGE}
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 1.0, 30.0
# A process that dies this often without a trial will not do better the next time.
_MOST_CRASHES = 5
_LOOK_SECONDS = 1.0
_POLL_SECONDS = 0.1
_MOST_WORKERS = 256
_OLD_LOG_DAYS, _OLD_TRIAL_DAYS = 7, 30


@dataclass(frozen=True)
class LocalWorkers:
    """The workers that are to start here, before anything is written for them.

    Attributes:
        processes: how many.
        gpus: the GPUs to share out, by their CUDA names.
        logs: folder for their output.
    """

    processes: int
    gpus: Sequence[str]
    logs: Path


def local_workers(workers: int | None, gpus: str | Sequence[str] | None) -> LocalWorkers:
    """Check what is asked of this machine's workers.

    Raises:
        UsageError: too few or too many, or a GPU that this machine does not have.
        OrchError: their logs cannot be written.
    """
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise UsageError(f"workers is {workers}; write 1 to {_MOST_WORKERS}")
    logs = home() / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        check_writable(logs / "worker.log")
    except OSError as error:
        raise OrchError(
            f"cannot write in the folder {logs}: {error.strerror}; set ORCH_HOME to a folder that "
            "you may write"
        ) from None
    names = gpus if gpus is None or isinstance(gpus, str) else ",".join(map(str, gpus))
    return LocalWorkers(workers or default_workers(), parse_gpus(names), logs)


@dataclass(frozen=True)
class Crew:
    """Which processes a supervisor runs.

    Attributes:
        study: the study's name.
        study_id: and its id.
        processes: how many.
        logs: folder for their output.
        echo: their output is shown as it comes.
        gpus: the GPUs to share out, by their CUDA names; empty: as the environment says.
        stay: workers wait for more budget when the study is done.
        timeout: seconds after which they take no further trial; None: none.
        trial_timeout: seconds after which a trial hangs; None: never.
        grace_seconds: seconds without a sign of life after which a trial is taken back.
        heartbeat_seconds: how often what a running trial prints is stored.
        patience_seconds: how long a worker works on without the database.
        handover: what each of them reads from its pipe; None: nothing.
    """

    study: str
    study_id: int
    processes: int
    logs: Path
    echo: bool = False
    gpus: Sequence[str] = ()
    stay: bool = False
    timeout: float | None = None
    trial_timeout: float | None = None
    grace_seconds: float = 60.0
    heartbeat_seconds: float = 10.0
    patience_seconds: float = 600.0
    handover: bytes | None = None

    @classmethod
    def of(
        cls,
        study: StoredStudy,
        local: LocalWorkers,
        *,
        echo: bool = False,
        stay: bool = False,
        timeout: float | None = None,
        handover: bytes | None = None,
    ) -> Crew:
        """The crew of a study on this machine; the other settings are the study's."""
        settings = study.spec.worker
        return cls(
            study.name,
            study.study_id,
            local.processes,
            local.logs,
            echo=echo,
            gpus=local.gpus,
            stay=stay,
            timeout=timeout,
            trial_timeout=settings.trial_timeout,
            grace_seconds=settings.grace_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            patience_seconds=settings.storage_patience,
            handover=handover,
        )


@dataclass
class _Slot:
    index: int
    process: WorkerProcess | None = None
    exit_code: int | None = None
    # Between crashes; a process that lived long was none of a row.
    backoff: Backoff = field(
        default_factory=lambda: Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
    )
    fruitless: int = 0  # since a process last died with a trial; those the budget's rules bound
    start_at: float = 0.0
    ending: bool = False  # its process said that it is done; the leases tell whether it was


@dataclass(frozen=True)
class _Debt:
    """A dead process's trials, to be settled as soon as the database answers."""

    slot: _Slot
    token: UUID
    code: int
    reason: str | None  # None: given back
    outputs: list[TrialOutput]
    since: float = field(default_factory=time.monotonic)

    def log_of(self, trial_id: int, url: str) -> str:
        """The last lines that the process printed in that trial."""
        logs = [each.last_lines(url) for each in self.outputs if each.trial_id == trial_id]
        return logs[-1] if logs else ""


class Supervisor:
    """Starts the crew, restarts what crashes, and takes back what a dead process held."""

    def __init__(self, database: Database, crew: Crew) -> None:
        self._database = database
        self._crew = crew
        self._slots = [_Slot(index) for index in range(crew.processes)]
        self._threads = divide_threads(cores(), crew.processes)
        self._debts: list[_Debt] = []
        self._look_at = self._store_at = 0.0
        self._takes_output = True
        self.interrupted = False
        self.messages: list[str] = []
        self.last_words: list[str] = []

    @contextmanager
    def running(self) -> Iterator[Supervisor]:
        """Run the crew inside the block; whatever ends the block ends the crew."""
        # Of crews that were killed with their supervisor; of trials that ended on other machines.
        remove_old(self._crew.logs.glob("*.log"), _OLD_LOG_DAYS)
        remove_old(saved_files(), _OLD_TRIAL_DAYS)
        try:
            yield self
        finally:
            self.kill()

    def run(self, show: Callable[[], object]) -> None:
        """Look after the crew in this thread until nobody works any more.

        A first KeyboardInterrupt asks the workers to leave, a second one ends them.

        Args:
            show: called between two looks; it may take a moment.

        Raises:
            KeyboardInterrupt: it was interrupted, and the workers have left.
        """
        with self.running():
            while self._goes_on(show):
                pass
        try:
            show()
        except KeyboardInterrupt:
            self.interrupted = True
        if self.interrupted:
            raise KeyboardInterrupt

    def _goes_on(self, show: Callable[[], object]) -> bool:
        """One look, and the wait before the next one. Returns whether anybody still works."""
        works = True
        try:
            works = self.poll()
            if works:
                show()
                self.wait(_POLL_SECONDS)
        except KeyboardInterrupt:
            self.interrupt()
        return works

    def interrupt(self) -> None:
        """Ask the crew to leave; asked again, end it."""
        if self.interrupted:
            self.kill()
            return
        self.interrupted = True
        self.messages.append(
            "stopping: running trials are given back after their epoch or step (again: at once)"
        )
        self.leave()

    def wait(self, seconds: float) -> None:
        """Wait; what processes are still to be handed goes through their pipes meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            waiting = [
                slot.process
                for slot in self._slots
                if slot.process is not None and slot.process.has_unsent
            ]
            if not waiting:
                time.sleep(left)
                return
            _, writable, _ = select.select([], waiting, [], left)
            for process in writable:
                process.send()

    def poll(self) -> bool:
        """Look after the crew once. Returns whether anybody still works."""
        for slot in self._slots:
            if slot.process is None:
                waits = slot.ending or time.monotonic() < slot.start_at
                if slot.exit_code is None and not waits:
                    self._start(slot)
                continue
            slot.process.read_output()
            code = slot.process.poll()
            if code is not None:
                self._ended(slot, code)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + min(_LOOK_SECONDS, self._crew.grace_seconds / 8)
            self._settle()
            self._look_at_leases()
        self._store_outputs()
        return any(slot.exit_code is None for slot in self._slots)

    def leave(self) -> None:
        """Ask every process to end after the value that it reports next."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.ask_to_leave()
            elif slot.exit_code is None:
                slot.exit_code = Exit.INTERRUPTED

    def kill(self) -> None:
        """End every process at once and give its trial back."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()
                slot.exit_code = Exit.INTERRUPTED
                self._owe(slot, slot.process, Exit.INTERRUPTED, None)
            elif slot.exit_code is None:
                slot.exit_code = Exit.INTERRUPTED
        self._settle()

    def exit_code(self) -> int:
        """The crew's exit code: the gravest of its processes'."""
        return max((slot.exit_code or 0 for slot in self._slots), default=0)

    def raise_failure(self) -> None:
        """Raise what the crew ended of, if it did not end well.

        Raises:
            StudyFailed: the study failed, or this machine may not or cannot take part.
            UsageError: the study is used wrongly, so that no trial can succeed.
            StorageError: the database is out of reach.
        """
        code = self.exit_code()
        if not code:
            return
        words = "; ".join(self.last_words)
        none = f"the workers of study '{self._crew.study}' ended without success"
        raise Exit(code if code in _FINAL_CODES else Exit.FAILED).error(words or none)

    def new_output(self) -> str:
        """What the crew has written since the last call."""
        return "".join(slot.process.new_output() for slot in self._slots if slot.process)

    def _start(self, slot: _Slot) -> None:
        crew = self._crew
        gpu = crew.gpus[slot.index % len(crew.gpus)] if crew.gpus else None
        slot.process = WorkerProcess(
            crew.study,
            self._database.url,
            self._threads,
            gpu,
            crew.stay,
            crew.timeout,
            crew.logs,
            crew.handover,
        )

    def _ended(self, slot: _Slot, code: int) -> None:
        process = slot.process
        assert process is not None
        process.read_output()
        self._say_last_words(process, code)
        if self.interrupted:
            # Asked to leave it gives its trial back itself, unless it was killed meanwhile.
            slot.exit_code = code if code in _FINAL_CODES else Exit.INTERRUPTED
            self._owe(slot, process, code, None)
            return
        reason = process.doom or f"its worker process {describe_exit(code)} during the trial"
        if code in _FINAL_CODES:
            slot.ending = True
        else:
            if process.seconds > _LONGEST_BACKOFF_SECONDS:
                slot.backoff.reset()
            slot.fruitless += 1
            slot.start_at = math.inf
        self._owe(slot, process, code, reason)
        self._settle()
        if code not in _FINAL_CODES:
            # What the supervisor has ended was not ended by want of memory.
            how = "was ended with its trial" if process.doom else describe_exit(code)
            self._start_again(slot, how)

    def _owe(self, slot: _Slot, process: WorkerProcess, code: int, reason: str | None) -> None:
        """Note what a process that has ended may have held; it goes last, should we be stopped."""
        process.read_output()
        self._debts.append(_Debt(slot, process.token, code, reason, process.trial_outputs))
        slot.process = None
        process.remove_log()

    def _start_again(self, slot: _Slot, how: str) -> None:
        if slot.fruitless >= _MOST_CRASHES:
            slot.exit_code = 1
            self.messages.append(f"a worker process {how} again; given up")
            return
        if not slot.fruitless:
            slot.backoff.reset()  # it died with its trial, which ended that: the next need not wait
        wait = slot.backoff.next_seconds()
        slot.start_at = time.monotonic() + wait
        self.messages.append(f"a worker process {how}; another starts in {wait:.0f} s")

    def _say_last_words(self, process: WorkerProcess, code: int) -> None:
        log = process.last_lines()
        if self._crew.echo:
            self.messages.extend(process.new_output().splitlines())
        if code in _FINAL_CODES and code != 0 and log:
            words = log.splitlines()[-1].split("] ", 1)[-1]
            if words not in self.last_words:  # the others of the crew end of the same
                self.last_words.append(words)

    def _settle(self) -> None:
        """Take back or give back what dead processes held; later, while the database is away."""
        while self._debts:
            debt = self._debts[0]
            try:
                held = self._take_back(debt)
            except StorageUnavailable:
                self._lose_patience()
                return  # the grace period takes it back in any case
            except StorageError as error:  # it will not work later either
                self.messages.append(f"a trial is taken back after the grace period: {error}")
                held = False
            self._debts.pop(0)
            if held:
                debt.slot.fruitless = 0
            if debt.slot.ending:
                debt.slot.ending = False
                if held:
                    self._start_again(debt.slot, describe_exit(debt.code))
                else:
                    debt.slot.exit_code = debt.code

    def _take_back(self, debt: _Debt) -> bool:
        """End or return what the process held. Returns whether it held a trial."""
        claims = Claims(self._database, self._crew.study_id, debt.token)
        # Before the trials end: who waits for that then finds all that they printed.
        self._store(debt.outputs, claims)
        held = claims.leased()
        for trial_id in held:
            if debt.reason is None:
                claims.release(trial_id)
            else:
                claims.fail(trial_id, debt.reason, {facts.LOG: debt.log_of(trial_id, claims.url)})
        claims.leave()
        return bool(held)

    def _store_outputs(self) -> None:
        """Store what trials print, and have printed; later, while the database is away."""
        if time.monotonic() < self._store_at:
            return
        for slot in self._slots:
            if slot.process is None:
                continue
            claims = Claims(self._database, self._crew.study_id, slot.process.token)
            try:
                self._store(slot.process.trial_outputs, claims)
            except StorageUnavailable:
                self._store_at = time.monotonic() + _LOOK_SECONDS
                return
            slot.process.forget_sent_output()

    def _store(self, outputs: Sequence[TrialOutput], claims: Claims) -> None:
        """Store what is due of these.

        Raises:
            StorageUnavailable: the database is away.
        """
        if not self._takes_output:
            return
        try:
            for output in outputs:
                if output.is_due(self._crew.heartbeat_seconds):
                    output.send(claims)
        except StorageUnavailable:
            raise
        except StorageError as error:  # it will not work later either, and trials can do without
            self._takes_output = False
            self.messages.append(f"what trials print is not stored: {error}")

    def _lose_patience(self) -> None:
        """Believe an exit code where the database stays away too long to say what was held."""
        patience = self._crew.patience_seconds
        for debt in self._debts:
            lost = debt.code == Exit.NO_STORAGE
            if debt.slot.ending and (lost or time.monotonic() - debt.since > patience):
                debt.slot.ending = False
                debt.slot.exit_code = Exit.NO_STORAGE

    def _look_at_leases(self) -> None:
        """End trials that hang, and keep those whose process is too busy for a sign of life."""
        try:
            rows = self._database.rows("lease_ages", study_id=self._crew.study_id)
        except StorageError:
            return
        leases = {row["worker_id"]: row for row in rows}
        for slot in self._slots:
            lease = None if slot.process is None else leases.get(str(worker_id(slot.process.token)))
            if lease is not None:
                self._end_if_hanging(slot, lease["seconds"])
                self._renew_if_late(slot, lease["silent_seconds"])

    def _end_if_hanging(self, slot: _Slot, seconds: float) -> None:
        process, limit = slot.process, self._crew.trial_timeout
        assert process is not None
        if limit is None or seconds <= limit or process.doom:
            return
        process.doom = f"hangs: no end within worker.trial_timeout ({limit:g} s)"
        self.messages.append(f"a trial {process.doom}; its process is ended")
        process.kill()

    def _renew_if_late(self, slot: _Slot, silent_seconds: float) -> None:
        # A long call that holds Python's lock lets no thread of the process send a heartbeat.
        process = slot.process
        assert process is not None
        if silent_seconds <= self._crew.grace_seconds / 4 or not process.has_run():
            return
        with contextlib.suppress(StorageError):
            Claims(self._database, self._crew.study_id, process.token).renew()
