"""Watch a study that runs elsewhere."""

from __future__ import annotations

import time

from orchestrator.errors import StorageUnavailable
from orchestrator.report.display import display
from orchestrator.report.epochs import EpochCounter
from orchestrator.report.progress import ProgressReader
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, open_study

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
    """Whether nothing more will come, as far as can be told; an outage is no end."""
    try:
        state = open_study(database, name).state
        progress = reader.read()
    except StorageUnavailable:
        return False
    if progress.done >= progress.budget:
        return True
    return state != "open" and (progress.running == 0 or progress.workers == 0)
