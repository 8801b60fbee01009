"""Workers on this machine: take part in a study that was created anywhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

import optuna
from optuna.trial import FrozenTrial

from orchestrator.errors import NoSuchStudy, NoTables, StorageError, StorageUnavailable
from orchestrator.report.numbers import counted
from orchestrator.report.progress import Fold, ProgressReader, Show, display, say, say_all
from orchestrator.report.pruning import EpochCounter
from orchestrator.resolve.objective import (
    check_can_run,
    check_consent,
    make_objective,
    remember_command,
)
from orchestrator.resolve.pins import check_data, check_software, record_mismatch
from orchestrator.resolve.resolve import Resumed
from orchestrator.serve.metrics import metrics_served
from orchestrator.spec.keywords import seconds_of
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.schema import open_database
from orchestrator.storage.studies import StoredStudy, open_study
from orchestrator.training import handover
from orchestrator.training.handover import Handover
from orchestrator.worker.supervisor import Crew, LocalWorkers, Supervisor, local_workers
from orchestrator.worker.worker import GuestWorker

__all__ = ["check", "join"]

_LOOK_SECONDS = 0.5  # how often the database is asked for progress
_WAIT_SECONDS = 2.0  # how often a study that does not exist yet is looked for


def join(
    study: str,
    *,
    storage: str | None = None,
    processes: int = 1,
    gpus: str | Sequence[str] | None = None,
    timeout: float | str | None = None,
    wait: bool = False,
    allow_mismatch: bool = False,
    allow_command: bool = False,
    metrics: str | None = None,
) -> None:
    """Run workers on this machine until nothing is left to do; they say what they do.

    Ctrl-C (KeyboardInterrupt) asks them to leave, and their trials are given back; a second one
    ends them at once.

    Example:
        orch.workers.join("mlp", storage="postgresql://orch@db.lab/orch", processes=4)

    Args:
        study: the study's name.
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.
        processes: how many worker processes.
        gpus: the GPUs to share out: ``"all"``, ``"none"``, ``"0,1"`` or a list.
        timeout: start no trials after this time, e.g. ``90`` or ``"30m"``.
        wait: wait for the study if there is none of that name yet, and stay when it is done, for
            more budget.
        allow_mismatch: join even if this machine's code or versions differ from the study's.
        allow_command: run the command that the study stores, though you have not given it on this
            machine. It is then remembered here.
        metrics: serve metrics for Prometheus at this ``[HOST:]PORT``; None: nowhere.

    Raises:
        NoSuchStudy: there is no study of that name.
        StudyFailed: the study failed, or this machine may not take part.
        UsageError: the study is used wrongly, or its objective cannot be imported here.
        StorageError: the storage is out of reach.
        KeyboardInterrupt: it was interrupted; the workers have left.
    """
    local, seconds = local_workers(processes, gpus), seconds_of(timeout)
    database, stored = _wait_for(storage, study) if wait else _find(storage, study)
    with metrics_served(database.url, metrics, study) as address:
        if address:
            say(f"metrics at {address}")
        _take_part(database, stored, local, seconds, wait, allow_mismatch, allow_command)
    database.close()


def check(
    *,
    workers: int | None = None,
    gpus: str | Sequence[str] | None = None,
    timeout: float | str | None = None,
) -> None:
    """Check what :func:`join` or ``Study.run`` are to be given, before anything is changed.

    Example:
        orch.workers.check(workers=4, gpus="0,1")

    Raises:
        UsageError: too many workers, a GPU that this machine does not have, or no duration.
        OrchError: the workers' logs cannot be written.
    """
    local_workers(workers, gpus)
    seconds_of(timeout)


def _find(storage: str | None, study: str) -> tuple[Database, StoredStudy]:
    database = open_database(storage, create=False)
    try:
        return database, open_study(database, study)
    except NoSuchStudy:
        database.close()
        raise


def _wait_for(storage: str | None, study: str) -> tuple[Database, StoredStudy]:
    """As :func:`_find`; a study that does not exist yet is waited for, and so are the tables."""
    is_told = False
    while True:
        try:
            return _find(storage, study)
        except (NoSuchStudy, NoTables) as error:
            if not is_told:
                say(f"{error}; waiting for the study")
                is_told = True
            time.sleep(_WAIT_SECONDS)


def _take_part(
    database: Database,
    study: StoredStudy,
    local: LocalWorkers,
    timeout: float | None,
    stay: bool,
    allow_mismatch: bool,
    allow_command: bool,
) -> None:
    check_can_run(study.spec)
    check_consent(study.spec, allow_command)
    mismatch = check_software(database, study, allow_mismatch)
    remember_command(study.spec)
    if mismatch:
        # The worker processes compare the data themselves; a record must not come before that.
        check_data(study, make_objective(study.spec))
        record_mismatch(database, study, mismatch)
        say(_warning(mismatch))
    crew = Crew.of(study, local, echo=True, stay=stay, timeout=timeout)
    supervisor = Supervisor(database, crew)
    fold = Fold(say)

    def echo() -> None:
        fold.add_output(supervisor.new_output())
        say_all(supervisor.messages, fold)

    try:
        supervisor.run(echo)
    finally:
        echo()
        fold.end()
    supervisor.raise_failure()
    say(f"these workers have ended{_done(database, study)}")


def _done(database: Database, study: StoredStudy) -> str:
    try:
        row = database.row("progress", study_id=study.study_id)
    except StorageError:
        row = None
    if row is None:
        return ""
    done = f" with {row['complete'] + row['pruned']} of {row['budget']} trials done"
    return f"{done}; see what is found with: orch report {study.name}"


def _warning(mismatch: str) -> str:
    return (
        f"warning: this machine's software is not that of the study ({mismatch}); the report will "
        "say so"
    )


@dataclass(frozen=True)
class LocalRun:
    """Work on a study that this process has taken up: what ``Study.run`` does.

    Attributes:
        database: where the study is.
        workers: the worker processes; None: the trials run in this process.
        handover: what each of them reads from its pipe; None: nothing.
    """

    database: Database
    workers: LocalWorkers | None
    handover: bytes | None

    @classmethod
    def prepare(
        cls,
        database: Database,
        workers: int | None,
        gpus: str | Sequence[str] | None,
        handed: Sequence[Handover],
    ) -> LocalRun:
        """Check what is asked of this machine, before anything is written.

        Raises:
            UsageError: too many workers, a GPU that is not here, or an objective or data that
                cannot be handed to another process.
            OrchError: the workers' logs cannot be written.
        """
        if workers == 0:
            return cls(database, None, None)
        local = local_workers(workers, gpus)
        return cls(database, local, handover.message(handed))

    def work(
        self,
        resumed: Resumed,
        *,
        timeout: float | None = None,
        shown: bool = True,
        on_trial: Callable[[FrozenTrial], None] | None = None,
    ) -> None:
        """Work until the study is done, with progress. See ``Study.run``."""
        study = resumed.study
        reader = ProgressReader(self.database, study, EpochCounter(study))
        progress = reader.read()
        ended = _EndedTrials(self.database, study, on_trial)
        with display(reader, shown) as show:
            if resumed.mismatch:
                show.fold.add(_warning(resumed.mismatch))
            if progress.done >= progress.budget:
                show.fold.add(f"study {study.name}: all {progress.budget} trials are done")
                return
            count = 1 if self.workers is None else self.workers.processes
            show.fold.add(
                f"study {study.name}: {counted(count, 'worker')}, "
                f"budget {counted(progress.budget, 'trial')}"
            )
            if self.workers is None:
                self._work_here(study, timeout, show, ended)
            else:
                crew = Crew.of(study, self.workers, timeout=timeout, handover=self.handover)
                self._supervise(Supervisor(self.database, crew), show, ended)

    def _supervise(self, supervisor: Supervisor, show: Show, ended: _EndedTrials) -> None:
        next_look = 0.0

        def look() -> None:
            nonlocal next_look
            if time.monotonic() >= next_look:
                if os.environ.get("ORCH_DEBUG"):  # else what workers write stays in their logs
                    supervisor.messages.extend(supervisor.new_output().splitlines())
                show(supervisor.messages)
                ended.tell()
                next_look = time.monotonic() + _LOOK_SECONDS

        try:
            supervisor.run(look)
        finally:
            show(supervisor.messages)
        ended.tell()
        supervisor.raise_failure()

    def _work_here(
        self, study: StoredStudy, timeout: float | None, show: Show, ended: _EndedTrials
    ) -> None:
        worker = GuestWorker(self.database.url, study.name, timeout)
        with _looking(show, ended):
            worker.run()


class _EndedTrials:
    """Tells of each trial that ends from now on."""

    def __init__(
        self,
        database: Database,
        study: StoredStudy,
        on_trial: Callable[[FrozenTrial], None] | None,
    ) -> None:
        self._on_trial = on_trial
        if on_trial is not None:
            self._study = optuna.Study(study.name, PostgresStorage(database))
            self._told = {trial.number for trial in self._ended()}

    def _ended(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.is_finished()]

    def tell(self) -> None:
        """Tell of those that have ended since; while the storage is away, later."""
        if self._on_trial is None:
            return
        try:
            ended = self._ended()
        except StorageUnavailable:
            return
        for trial in ended:
            if trial.number not in self._told:
                self._told.add(trial.number)
                self._on_trial(trial)


@contextmanager
def _looking(show: Show, ended: _EndedTrials) -> Iterator[None]:
    """Show progress and tell of trials from a thread, while this one runs them."""
    over = Event()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while True:
                last = over.wait(_LOOK_SECONDS)
                show([])
                ended.tell()
                if last:
                    return
        except BaseException as error:  # of on_trial; it is raised where the caller waits
            failures.append(error)

    thread = Thread(target=look, name="orch progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    for error in failures:
        raise error
