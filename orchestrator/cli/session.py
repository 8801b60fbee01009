"""A session of work on this machine: the crew runs, progress is shown, the report closes it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from orchestrator.durations import parse_duration
from orchestrator.errors import StorageError, StorageUnavailable, UsageError
from orchestrator.report.progress import Progress, ProgressReader
from orchestrator.report.summary import summarise
from orchestrator.report.text import render
from orchestrator.resolve import full_steps, make_objective
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import home
from orchestrator.study import StoredStudy, open_study
from orchestrator.worker.devices import default_workers, parse_gpus
from orchestrator.worker.supervisor import Crew, Supervisor

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 0.5  # how often the database is asked for progress


def work_and_report(
    database: Database, study: StoredStudy, workers: int | None, gpus: str | None
) -> int:
    """Run local workers under a live display, then print the report. Returns the exit code."""
    supervisor = _supervise(database, study, workers, gpus)
    return _close(database, study, supervisor)


def work_quietly(
    database: Database, study: StoredStudy, workers: int | None, gpus: str | None
) -> int:
    """As :func:`work_and_report`, and the caller prints what was found."""
    supervisor = _supervise(database, study, workers, gpus)
    if supervisor.interrupted:
        say("stopped; nothing is lost. The same command goes on")
        return 130
    return supervisor.exit_code()


def _supervise(
    database: Database, study: StoredStudy, workers: int | None, gpus: str | None
) -> Supervisor:
    crew = Crew(
        study.name,
        study.study_id,
        processes=workers or default_workers(),
        logs=home() / "logs",
        gpus=parse_gpus(gpus),
        trial_timeout=study.spec.worker.trial_timeout,
    )
    steps = full_steps(study.spec, make_objective(study.spec))
    reader = ProgressReader(database, study, steps)
    supervisor = Supervisor(database, crew)
    progress = reader.read()
    if progress.done >= progress.budget:
        say(f"study {study.name}: all {progress.budget} trials are done")
        return supervisor
    say(f"study {study.name}: {crew.processes} workers, budget {progress.budget} trials")
    with supervisor.running(), _display(reader) as show:
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
) -> int:
    """Run workers that say for themselves what they do. Returns the exit code."""
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
    )
    supervisor = Supervisor(database, crew)
    with supervisor.running():
        while supervisor.poll():
            _echo(supervisor)
            time.sleep(_POLL_SECONDS)
    _echo(supervisor)
    return 130 if supervisor.interrupted else supervisor.exit_code()


def say(line: str) -> None:
    """A line of progress on standard error."""
    print(line, file=sys.stderr, flush=True)


def _close(database: Database, study: StoredStudy, supervisor: Supervisor) -> int:
    if supervisor.interrupted:
        say(f"stopped; nothing is lost. Go on with: orch resume {study.name}")
        return 130
    code = supervisor.exit_code()
    if code == StorageError.exit_code:
        return code
    print(render(summarise(database, open_study(database, study.name))), end="")
    return code


@contextmanager
def _display(reader: ProgressReader) -> Iterator[_Show]:
    if not sys.stderr.isatty():
        yield _PlainLines(reader)
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield _LivePicture(reader, live)


class _Show:
    """Shows one look at the study; called again and again."""

    def __init__(self, reader: ProgressReader) -> None:
        self.reader = reader
        self._away = False

    def __call__(self, messages: list[str]) -> None:
        """Show the messages, and what is new in the study; the workers do not wait for it."""
        try:
            self.draw(messages, self.reader.news(), self.reader.read)
            self._away = False
        except StorageUnavailable as error:
            if not self._away:
                messages.append(f"the workers go on without the database: {error}")
                self.draw(messages, [], None)
            self._away = True

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        raise NotImplementedError


class _PlainLines(_Show):
    """A line for each trial that ended, with where the study stands then."""

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        _say_all(messages)
        if not news or look is None:
            return
        progress = look()
        for line in news[:-1]:
            say(line)
        state = f"{self.reader.headline(progress)}; {self.reader.best_line(progress)}"
        say(f"{news[-1]}; {state}")


class _LivePicture(_Show):
    """A bar, the headline and the best trial, redrawn in place."""

    def __init__(self, reader: ProgressReader, live: Live) -> None:
        super().__init__(reader)
        self._live = live

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        for line in (*messages, *news):
            self._live.console.print(line, markup=False)
        messages.clear()
        if look is not None:
            self._live.update(self._picture(look()), refresh=True)

    def _picture(self, progress: Progress) -> Group:
        return Group(
            Padding(ProgressBar(total=progress.budget, completed=progress.done, width=60)),
            Text(self.reader.headline(progress), style="bold"),
            Text(self.reader.best_line(progress)),
        )


def _say_all(messages: list[str]) -> None:
    for line in messages:
        say(line)
    messages.clear()


def _echo(supervisor: Supervisor) -> None:
    sys.stderr.write(supervisor.new_output())
    sys.stderr.flush()
    _say_all(supervisor.messages)


def _seconds(timeout: str | None) -> float | None:
    if timeout is None:
        return None
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
