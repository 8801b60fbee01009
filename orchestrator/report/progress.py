"""Progress: where a running study stands, as a live picture in a terminal, as lines elsewhere."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from orchestrator.errors import StorageUnavailable
from orchestrator.report.numbers import counted, duration, number, params_line, values_line
from orchestrator.report.pruning import EpochCounter
from orchestrator.report.section import section
from orchestrator.storage.database import Database, Row
from orchestrator.storage.studies import StoredStudy, open_study

_MOST_LINES = 20  # that a notebook shows below the bar


@dataclass(frozen=True)
class Progress:
    """One look at a study. Counts are trials; ``values`` are epochs that pruned ones have reported.

    ``best_of_metrics`` has the best trial and value of each metric where there are several; the
    other ``best`` are of the first metric.
    """

    budget: int
    state: str
    complete: int
    pruned: int
    failed: int
    running: int
    workers: int
    values: int
    best_number: int | None = None
    best_value: float | None = None
    best_params: dict[str, Any] = field(default_factory=dict)
    best_of_metrics: list[tuple[int, float]] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.complete + self.pruned


class ProgressReader:
    """Reads one study's progress again and again.

    Args:
        database: where the study is.
        study: the study.
        counter: counts what pruning saved.
    """

    def __init__(self, database: Database, study: StoredStudy, counter: EpochCounter) -> None:
        self._database = database
        self._study = study
        self._counter = counter
        self._known: list[int] = [row["trial_id"] for row in self._ended()]
        self._started = time.monotonic()
        self._done_before: int | None = None
        self._best: tuple[int, dict[str, Any]] | None = None
        self._told_of_log = False

    def read(self) -> Progress:
        """Where the study stands now."""
        study_id = self._study.study_id
        row = self._database.row("progress", study_id=study_id)
        assert row is not None
        live = self._database.row(
            "count_live_workers",
            study_id=study_id,
            grace_seconds=self._study.spec.worker.grace_seconds,
        )
        best = self._database.row(
            "best_trial",
            study_id=study_id,
            maximize=self._study.spec.study.maximize,
        )
        progress = Progress(
            budget=row["budget"],
            state=row["state"],
            complete=row["complete"],
            pruned=row["pruned"],
            failed=row["failed"],
            running=row["running"],
            workers=live["live"] if live else 0,
            values=row["values_of_pruned"],
            best_number=best["number"] if best else None,
            best_value=best["value"] if best else None,
            best_params=section(
                "The best parameters", partial(self._params, best), lambda line: {}
            ),
            best_of_metrics=self._best_of_metrics(),
        )
        if self._done_before is None:
            self._done_before = progress.done
        return progress

    def news(self) -> list[str]:
        """A line for each trial that has ended since the last call."""
        rows = self._ended()
        self._known.extend(row["trial_id"] for row in rows)
        return [section(f"Trial {row['number']}", partial(self._line, row), str) for row in rows]

    def seconds_left(self, progress: Progress) -> float | None:
        """An estimate from the pace since the reader started; None before a trial has ended."""
        done = progress.done - (self._done_before or 0)
        if done <= 0:
            return None
        pace = (time.monotonic() - self._started) / done
        return pace * max(0, progress.budget - progress.done)

    def saved(self, progress: Progress) -> int | None:
        """The epochs, or of a function the steps, that pruning has saved so far.

        None where each trial has its own number, or none: a function may report nothing.
        """
        spec = self._study.spec
        searched = "epochs" in spec.space or "epochs" in (progress.best_params or {})
        if searched or not progress.values or self._counter.is_assumed:
            return None
        values = max(0, progress.pruned * self._counter.steps - progress.values)
        is_training = spec.training.rounds > 1 and self._counter.has_epochs
        return values * spec.training.epochs if is_training else values

    def headline(self, progress: Progress) -> str:
        """The whole state in one line."""
        parts = [
            f"{progress.done}/{progress.budget} trials",
            f"{progress.pruned} pruned",
            counted(progress.workers, "worker"),
        ]
        saved = self.saved(progress)
        if saved:
            parts.insert(2, f"{counted(saved, self._counter.unit)} saved")
        if progress.failed:
            parts.insert(2, f"{progress.failed} failed")
        left = self.seconds_left(progress)
        if left is not None and progress.done < progress.budget:
            # A guess to a tenth of a second would be too good.
            rough = f"{left:.0f} s" if left < 59.5 else duration(left)
            parts.append(f"about {rough} left")
        return ", ".join(parts)

    def best_line(self, progress: Progress) -> str:
        """The best trial so far with its parameters, or that there is none."""
        return section("The best trial", partial(self._describe_best, progress), str)

    def _describe_best(self, progress: Progress) -> str:
        if progress.best_value is None:
            complete = progress.done - progress.pruned
            if complete <= 0:
                return "no trial complete yet"
            return f"none of {counted(complete, 'complete trial')} may win so far"
        if progress.best_of_metrics:
            pairs = zip(self._study.spec.study.metrics, progress.best_of_metrics, strict=True)
            return "best " + ", ".join(
                f"{metric} {number(value)} (trial {trial})" for metric, (trial, value) in pairs
            )
        return (
            f"best {self._study.spec.study.metrics[0]} {number(progress.best_value)} "
            f"(trial {progress.best_number}: {params_line(progress.best_params)})"
        )

    def _ended(self) -> list[Row]:
        known = getattr(self, "_known", [])
        return self._database.rows("ended_since", study_id=self._study.study_id, known=known)

    def _line(self, row: Row) -> str:
        metrics, values = self._study.spec.study.metrics, row["values"]
        value = f" {number(values[0])}" if values else ""
        if len(values) == len(metrics) > 1:
            value = f" {values_line(metrics, values)}"
        reason = f" ({json.loads(row['reason'])})" if row["reason"] else ""
        return f"trial {row['number']} {row['state']}{value}{reason}{self._of_log(row)}"

    def _of_log(self, row: Row) -> str:
        """How to read its traceback or output, with the first failure alone: all have one."""
        # Of a worker that was lost, nothing is known.
        known = row["state"] == "FAIL" and row["reason"] and "lost: " not in row["reason"]
        if not known or self._told_of_log:
            return ""
        self._told_of_log = True
        return f"; what it printed last: orch show {self._study.name} --trial {row['number']}"

    def _best_of_metrics(self) -> list[tuple[int, float]]:
        if len(self._study.spec.study.metrics) == 1:
            return []
        rows = self._database.rows("best_of_metrics", study_id=self._study.study_id)
        return [(row["number"], row["value"]) for row in rows]

    def _params(self, best: Row | None) -> dict[str, Any]:
        if best is None:
            return {}
        if self._best is None or self._best[0] != best["trial_id"]:
            from orchestrator.spec.choices import read_domain

            rows = self._database.rows("params_of_trial", trial_id=best["trial_id"])
            self._best = (
                best["trial_id"],
                {
                    row["param_name"]: read_domain(row["distribution_json"]).to_external_repr(
                        row["param_value"]
                    )
                    for row in rows
                },
            )
        return self._best[1]


def say(line: str) -> None:
    """A line of progress on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def display(reader: ProgressReader, shown: bool = True) -> Iterator[Show]:
    """What shows a study's progress: a live picture, or plain lines where no terminal is.

    Args:
        reader: reads the progress.
        shown: False shows nothing.
    """
    if not shown:
        yield _Nothing(reader, Fold(lambda line: None))
        return
    if is_notebook():
        yield _NotebookLines(reader)
        return
    if not sys.stderr.isatty():
        lines = _PlainLines(reader, Fold(say))
        try:
            yield lines
        finally:
            lines.fold.end()
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        fold = Fold(lambda line: console.print(line, markup=False))
        try:
            yield _LivePicture(reader, fold, live)
        finally:
            fold.end()


class Show:
    """Shows one look at the study; called again and again."""

    def __init__(self, reader: ProgressReader, fold: Fold) -> None:
        self.reader = reader
        self.fold = fold
        self._away = False
        self._failures: set[str] = set()

    def __call__(self, messages: list[str]) -> None:
        """Show the messages, and what is new in the study; the workers do not wait for it."""
        try:
            section("The progress", lambda: self._show_all(messages), partial(self._fail, messages))
            self._away = False
        except StorageUnavailable as error:
            if not self._away:
                messages.append(f"the workers go on without the database: {error}")
                self.draw(messages, [], None)
            self._away = True

    def _show_all(self, messages: list[str]) -> None:
        self.draw(messages, self.reader.news(), self.reader.read)

    def _fail(self, messages: list[str], line: str) -> None:
        """Say once what cannot be shown; what the workers say arrives all the same."""
        if line not in self._failures:
            self._failures.add(line)
            messages.append(line)
        self.draw(messages, [], None)

    def _say(self, messages: list[str], news: list[str]) -> None:
        for line in news:
            self.fold.add(line)
        say_all(messages, self.fold)

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        raise NotImplementedError


class _Nothing(Show):
    """For whoever wants to see nothing."""

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        messages.clear()


class _PlainLines(Show):
    """A line for each trial that ended, with where the study stands then."""

    _best: str | None = None

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        if news and look is not None:
            self._say_news(news, look())
        say_all(messages, self.fold)  # what a study failed of, after the trials that did

    def _say_news(self, news: list[str], progress: Progress) -> None:
        for line in news[:-1]:
            self.fold.add(line)
        state = self.reader.headline(progress)
        # All its parameters again with every trial would hide what is new.
        best = self.reader.best_line(progress)
        if progress.best_number is None or best != self._best:
            state += f"; {best}"
        self._best = best
        self.fold.add(f"{news[-1]}; {state}", key=news[-1])


class _LivePicture(Show):
    """A bar, the headline and the best trial, redrawn in place."""

    def __init__(self, reader: ProgressReader, fold: Fold, live: Live) -> None:
        super().__init__(reader, fold)
        self._live = live

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        self._say(messages, news)
        if look is not None:
            self._live.update(self._picture(look()), refresh=True)

    def _picture(self, progress: Progress) -> Group:
        return Group(
            Padding(ProgressBar(total=progress.budget, completed=progress.done, width=60)),
            Text(self.reader.headline(progress), style="bold"),
            Text(self.reader.best_line(progress)),
        )


class _NotebookLines(Show):
    """Below its cell: what was said, then a bar, the headline and the best trial, in place."""

    def __init__(self, reader: ProgressReader) -> None:
        super().__init__(reader, Fold(self._add))
        ipython: Any = importlib.import_module("IPython.display")
        self._lines: list[str] = []
        self._look: Progress | None = None
        self._html = ipython.HTML
        self._handle = ipython.display(ipython.HTML(""), display_id=True)

    def _add(self, line: str) -> None:
        self._lines = [*self._lines, line][-_MOST_LINES:]
        self._redraw()

    def draw(
        self, messages: list[str], news: list[str], look: Callable[[], Progress] | None
    ) -> None:
        self._say(messages, news)
        progress = self._look if look is None else look()
        if progress != self._look:
            self._look = progress
            self._redraw()

    def _redraw(self) -> None:
        parts, progress = [], self._look
        if progress is not None:
            parts = [
                f'<progress max="{progress.budget}" value="{progress.done}" '
                'style="width:60ch"></progress>',
                f"<b>{escape(self.reader.headline(progress))}</b>",
                escape(self.reader.best_line(progress)),
            ]
        lines = escape("\n".join(self._lines))
        page = f"<div>{'<br>'.join(parts)}</div><pre>{lines}</pre>"
        self._handle.update(self._html(page))


def is_notebook() -> bool:
    """Whether this is the process of a notebook, whose cells show HTML."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and hasattr(running, "kernel")


def say_all(messages: list[str], fold: Fold) -> None:
    """Say what waits to be said, each line once, though Ctrl-C may come between two."""
    while messages:
        fold.add(messages.pop(0))


_LOOK_SECONDS = 1.0


def watch(database: Database, study: StoredStudy, shown: bool) -> None:
    """Show a study's progress until it is done.

    Raises:
        NoSuchStudy: it was deleted meanwhile.
        StorageError: the storage is out of reach when it begins; later, it is waited for.
    """
    reader = ProgressReader(database, study, EpochCounter(study))
    progress = reader.read()
    with display(reader, shown) as show:
        show.fold.add(
            f"study {study.name}: {reader.headline(progress)}; {reader.best_line(progress)}"
        )
        over = False
        while not over:
            over = _is_over(database, study.name, reader)
            show([])
            if not over:
                time.sleep(_LOOK_SECONDS)


def _is_over(database: Database, name: str, reader: ProgressReader) -> bool:
    """Whether the study is known to have ended; an outage does not end it."""
    try:
        state = open_study(database, name).state
        progress = reader.read()
    except StorageUnavailable:
        return False
    if progress.done >= progress.budget:
        return True
    return state != "open" and (progress.running == 0 or progress.workers == 0)


# What differs between two processes, or two attempts, that say the same.
_PROCESS = re.compile(r"^\[\d+\] ")
_FAILED = re.compile(r"^trial \d+ (?=FAIL|failed)")


class Fold:
    """Writes each line as it comes; of equal ones in a row the first, and then how many there were.

    Args:
        write: takes a line, or the lines of one record, without the last line's end.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._key: str | None = None
        self._count = 0

    def add(self, line: str, key: str | None = None) -> None:
        """Say a line.

        Args:
            line: the line, or the lines of one record.
            key: what is compared in its place; None: the line.
        """
        key = _FAILED.sub("", _PROCESS.sub("", line if key is None else key))
        if key == self._key:
            self._count += 1
            return
        self.end()
        self._write(line)
        self._key, self._count = key, 1

    def add_output(self, text: str) -> None:
        """Say what workers wrote: whole lines, a record with its traceback at a time."""
        for record in _records(text):
            self.add(record)

    def end(self) -> None:
        """Say how often the last line came; the next one is said whatever it is."""
        if self._count > 1:
            self._write(f"… ({self._count} times)")
        self._key, self._count = None, 0


def _records(text: str) -> Iterator[str]:
    record: list[str] = []
    for line in text.splitlines():
        # A line of logging begins with its process; what follows it, as a traceback, does not.
        belongs = record and _PROCESS.match(record[0]) and not _PROCESS.match(line)
        if record and not belongs:
            yield "\n".join(record)
            record = []
        record.append(line)
    if record:
        yield "\n".join(record)
