"""A session of work on this machine: the crew runs, progress is shown, the report closes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base.files import check_writable, home
from orchestrator.cli import streams
from orchestrator.cli.display import display, say, say_all
from orchestrator.cli.fold import Fold
from orchestrator.errors import OrchError, StorageError, UsageError
from orchestrator.report.epochs import EpochCounter
from orchestrator.report.formatting import counted
from orchestrator.report.listing import state_word
from orchestrator.report.progress import ProgressReader
from orchestrator.report.reader import summarise
from orchestrator.report.section import section
from orchestrator.report.text import render
from orchestrator.resolve.objective import make_objective
from orchestrator.resolve.pins import check_data, check_software, record_mismatch
from orchestrator.resolve.resume import Resumed
from orchestrator.spec.durations import parse_duration
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, open_study
from orchestrator.worker.devices import default_workers, parse_gpus
from orchestrator.worker.supervisor import Crew, Supervisor

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 0.5  # how often the database is asked for progress


@dataclass(frozen=True)
class LocalWorkers:
    """The workers that a verb starts here.

    Attributes:
        processes: how many.
        gpus: the GPUs to share out, by their CUDA names.
        logs: folder for their output.
    """

    processes: int
    gpus: Sequence[str]
    logs: Path


def local_workers(workers: int | None, gpus: str | None) -> LocalWorkers:
    """Check what a verb says about its workers, before it writes anything.

    Raises:
        UsageError: a GPU that this machine does not have.
        OrchError: their logs cannot be written.
    """
    logs = home() / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        check_writable(logs / "worker.log")
    except OSError as error:
        raise OrchError(
            f"cannot write in the folder {logs}: {error.strerror}; set ORCH_HOME to a folder that "
            "you may write"
        ) from None
    return LocalWorkers(workers or default_workers(), parse_gpus(gpus), logs)


def work_and_report(database: Database, resumed: Resumed, local: LocalWorkers) -> int:
    """Run local workers under a live display, then print the report. Returns the exit code."""
    if resumed.mismatch:
        _warn(resumed.mismatch)
    supervisor = _supervise(database, resumed.study, local)
    return _close(database, resumed.study, supervisor)


def work_quietly(database: Database, study: StoredStudy, local: LocalWorkers) -> int:
    """As :func:`work_and_report`, and the caller prints what was found."""
    supervisor = _supervise(database, study, local)
    if supervisor.interrupted:
        _say_stopped(database, study, "nothing is lost. Run the same command to continue")
        return 130
    return supervisor.exit_code()


def _supervise(database: Database, study: StoredStudy, local: LocalWorkers) -> Supervisor:
    crew = Crew(
        study.name,
        study.study_id,
        local.processes,
        local.logs,
        gpus=local.gpus,
        trial_timeout=study.spec.worker.trial_timeout,
        grace_seconds=study.spec.worker.grace_seconds,
        patience_seconds=study.spec.worker.storage_patience,
    )
    reader = ProgressReader(database, study, EpochCounter(study))
    supervisor = Supervisor(database, crew)
    progress = reader.read()
    if progress.done >= progress.budget:
        say(f"study {study.name}: all {progress.budget} trials are done")
        return supervisor
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
    local: LocalWorkers,
    timeout: float | None,
    stay: bool,
    allow_mismatch: bool,
) -> int:
    """Run workers that say for themselves what they do. Returns the exit code."""
    mismatch = check_software(database, study, allow_mismatch)
    if mismatch:
        # The worker processes compare the data themselves; a record must not come before that.
        check_data(study, make_objective(study.spec))
        record_mismatch(database, study, mismatch)
        _warn(mismatch)
    crew = Crew(
        study.name,
        study.study_id,
        local.processes,
        local.logs,
        echo=True,
        gpus=local.gpus,
        stay=stay,
        timeout=timeout,
        trial_timeout=study.spec.worker.trial_timeout,
        grace_seconds=study.spec.worker.grace_seconds,
        patience_seconds=study.spec.worker.storage_patience,
    )
    supervisor = Supervisor(database, crew)
    fold = Fold(say)
    with supervisor.running():
        while supervisor.poll():
            _echo(supervisor, fold)
            time.sleep(_POLL_SECONDS)
    _echo(supervisor, fold)
    fold.end()
    if supervisor.interrupted:
        _say_stopped(database, study, "nothing is lost: what these workers ran is given back")
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


def _warn(mismatch: str) -> None:
    say(
        f"warning: this machine's software is not that of the study ({mismatch}); the report will "
        "say so"
    )


def _say_stopped(database: Database, study: StoredStudy, rest: str) -> None:
    """Say that the user stopped the workers, and what remains to be done, if anything."""
    try:
        row = database.row("progress", study_id=study.study_id)
    except StorageError:
        row = None
    done = 0 if row is None else row["complete"] + row["pruned"]
    if row is not None and state_word(row["state"], done, row["budget"]) == "done":
        rest = (
            f"study {study.name} is done, with {done} of {row['budget']} trials; "
            f"see what it found with: orch report {study.name}"
        )
    say(f"stopped; {rest}")


def _close(database: Database, study: StoredStudy, supervisor: Supervisor) -> int:
    if supervisor.interrupted:
        _say_stopped(database, study, f"nothing is lost. Continue with: orch resume {study.name}")
        return 130
    code = supervisor.exit_code()
    if code == StorageError.exit_code:
        return code

    def report() -> str:
        return render(summarise(database, open_study(database, study.name)), streams.columns())

    # What was trained decides the exit code, not whether all of it can be shown.
    print(section("The report", report, lambda line: f"{line}\n"), end="")
    return code


def _echo(supervisor: Supervisor, fold: Fold) -> None:
    fold.add_output(supervisor.new_output())
    say_all(supervisor.messages, fold)


def parse_timeout(timeout: str | None) -> float | None:
    """The seconds of ``--timeout``; None: none.

    Raises:
        UsageError: it is not a duration.
    """
    if timeout is None:
        return None
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
