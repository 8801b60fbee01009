"""The display of a study that runs: a live picture in a terminal, plain lines elsewhere."""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from html import escape
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from orchestrator.errors import StorageUnavailable
from orchestrator.report.progress import Progress, ProgressReader
from orchestrator.report.pruning import EpochCounter
from orchestrator.report.section import section
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, open_study

_MOST_LINES = 20  # that a notebook shows below the bar


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
        for line in (*news, *messages):
            self.fold.add(line)
        messages.clear()
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
        for line in (*news, *messages):
            self.fold.add(line)
        messages.clear()
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
    """Say what waits to be said."""
    for line in messages:
        fold.add(line)
    messages.clear()


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
