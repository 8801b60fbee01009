"""watch: the live view of a study that runs elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from orchestrator.cli import options as o
from orchestrator.cli import streams

if TYPE_CHECKING:
    from orchestrator.report.progress import ProgressReader
    from orchestrator.storage.database import Database

_LOOK_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    app.command()(watch)


def watch(name: o.NameArgument, storage: o.StorageOption = None) -> None:
    """Watch a study that runs elsewhere until it is done, then report; Ctrl-C ends the view alone.

    Example: orch watch demo --storage postgresql://orch@db.lab/orch
    """
    from orchestrator.cli.display import display, say
    from orchestrator.report.epochs import EpochCounter
    from orchestrator.report.progress import ProgressReader
    from orchestrator.report.reader import summarise
    from orchestrator.report.section import section
    from orchestrator.report.text import render
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study

    database = open_database(storage)
    study = open_study(database, name)
    reader = ProgressReader(database, study, EpochCounter(study))
    progress = reader.read()
    say(f"study {name}: {reader.headline(progress)}; {reader.best_line(progress)}")
    with display(reader) as show:
        over = False
        while not over:
            over = _is_over(database, name, reader)
            show([])
            if not over:
                time.sleep(_LOOK_SECONDS)

    def report() -> str:
        return render(summarise(database, open_study(database, name)), streams.columns())

    print(section("The report", report, lambda line: f"{line}\n"), end="")


def _is_over(database: Database, name: str, reader: ProgressReader) -> bool:
    """Whether nothing more will come, as far as can be told; an outage is no end.

    Raises:
        NoSuchStudy: it was deleted meanwhile.
    """
    from orchestrator.errors import StorageUnavailable
    from orchestrator.storage.studies import open_study

    try:
        state = open_study(database, name).state
        progress = reader.read()
    except StorageUnavailable:
        return False
    if progress.done >= progress.budget:
        return True
    return state != "open" and (progress.running == 0 or progress.workers == 0)
