"""A session of work on this machine: the crew runs, progress is shown, the report closes it."""

from __future__ import annotations

import sys
import time

from orchestrator.cli.display import display, say, say_all
from orchestrator.durations import parse_duration
from orchestrator.errors import StorageError, UsageError
from orchestrator.report.epochs import EpochCounter
from orchestrator.report.progress import ProgressReader
from orchestrator.report.summary import summarise
from orchestrator.report.text import render
from orchestrator.report.words import counted
from orchestrator.resolve.objective import make_objective
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import home
from orchestrator.study import StoredStudy, open_study
from orchestrator.worker.devices import default_workers, parse_gpus
from orchestrator.worker.pinned import check_software
from orchestrator.worker.supervisor import Crew, Supervisor

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 0.5  # how often the database is asked for progress


def work_and_report(
    database: Database,
    study: StoredStudy,
    workers: int | None,
    gpus: str | None,
    allow_mismatch: bool = False,
) -> int:
    """Run local workers under a live display, then print the report. Returns the exit code."""
    supervisor = _supervise(database, study, workers, gpus, allow_mismatch)
    return _close(database, study, supervisor)


def work_quietly(
    database: Database, study: StoredStudy, workers: int | None, gpus: str | None
) -> int:
    """As :func:`work_and_report`, and the caller prints what was found."""
    supervisor = _supervise(database, study, workers, gpus, allow_mismatch=False)
    if supervisor.interrupted:
        say("stopped; nothing is lost. The same command goes on")
        return 130
    return supervisor.exit_code()


def _supervise(
    database: Database,
    study: StoredStudy,
    workers: int | None,
    gpus: str | None,
    allow_mismatch: bool,
) -> Supervisor:
    crew = Crew(
        study.name,
        study.study_id,
        processes=workers or default_workers(),
        logs=home() / "logs",
        gpus=parse_gpus(gpus),
        trial_timeout=study.spec.worker.trial_timeout,
        grace_seconds=study.spec.worker.grace_seconds,
        patience_seconds=study.spec.worker.storage_patience,
    )
    make_objective(study.spec)  # one that is not to be had is refused before anything starts
    reader = ProgressReader(database, study, EpochCounter(study.spec))
    supervisor = Supervisor(database, crew)
    progress = reader.read()
    if progress.done >= progress.budget:
        say(f"study {study.name}: all {progress.budget} trials are done")
        return supervisor
    _compare_software(database, study, allow_mismatch)
    say(
        f"study {study.name}: {counted(crew.processes, 'worker')}, "
        f"budget {counted(progress.budget, 'trial')}"
    )
    with supervisor.running(), display(reader) as show:
        next_look = 0.0
        while supervisor.poll():
            if time.monotonic() >= next_look:
                show(supervisor.messages)
                next_look = time.monotonic() + _LOOK_SECONDS
            time.sleep(_POLL_SECONDS)
        show(supervisor.messages)
    return supervisor


def work(
    database: Database,
    study: StoredStudy,
    processes: int,
    gpus: str | None,
    timeout: str | None,
    stay: bool,
    allow_mismatch: bool,
) -> int:
    """Run workers that say for themselves what they do. Returns the exit code."""
    _compare_software(database, study, allow_mismatch)
    crew = Crew(
        study.name,
        study.study_id,
        processes,
        logs=home() / "logs",
        echo=True,
        gpus=parse_gpus(gpus),
        stay=stay,
        timeout=_seconds(timeout),
        trial_timeout=study.spec.worker.trial_timeout,
        grace_seconds=study.spec.worker.grace_seconds,
        patience_seconds=study.spec.worker.storage_patience,
    )
    supervisor = Supervisor(database, crew)
    with supervisor.running():
        while supervisor.poll():
            _echo(supervisor)
            time.sleep(_POLL_SECONDS)
    _echo(supervisor)
    if supervisor.interrupted:
        say("stopped; nothing is lost: what these workers ran is given back")
        return 130
    if not supervisor.exit_code():
        say(f"these workers have ended{_done(database, study)}")
    return supervisor.exit_code()


def _done(database: Database, study: StoredStudy) -> str:
    try:
        row = database.row("progress", study_id=study.study_id)
    except StorageError:
        row = None
    if row is None:
        return ""
    done = f" with {row['complete'] + row['pruned']} of {row['budget']} trials done"
    return f"{done}; see what is found with: orch report {study.name}"


def _compare_software(database: Database, study: StoredStudy, allow_mismatch: bool) -> None:
    warning = check_software(database, study, allow_mismatch)
    if warning is not None:
        say(f"warning: {warning}")


def _close(database: Database, study: StoredStudy, supervisor: Supervisor) -> int:
    if supervisor.interrupted:
        say(f"stopped; nothing is lost. Go on with: orch resume {study.name}")
        return 130
    code = supervisor.exit_code()
    if code == StorageError.exit_code:
        return code
    print(render(summarise(database, open_study(database, study.name))), end="")
    return code


def _echo(supervisor: Supervisor) -> None:
    sys.stderr.write(supervisor.new_output())
    sys.stderr.flush()
    say_all(supervisor.messages)


def _seconds(timeout: str | None) -> float | None:
    if timeout is None:
        return None
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
