"""Notes: the verdict of each study where optuna-dashboard shows a study's note, kept up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import BaseStorage

from orchestrator.errors import OrchError
from orchestrator.report.summary import summarise
from orchestrator.storage.database import Database
from orchestrator.storage.optuna_storage import open_optuna_storage
from orchestrator.study import open_study

# What stands between these is ours; the rest of the note is the user's.
_START, _END = "### Verdict\n", "\n\n*(by orch, as of the last look)*"
_LOOK_SECONDS = 20.0


@contextmanager
def keep_notes(url: str) -> Iterator[None]:
    """Keep the notes up to date while the block runs, from a thread of its own."""
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(url, ended), name="notes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _keep(url: str, ended: threading.Event) -> None:
    database = Database(url)
    storage = open_optuna_storage(url)
    seen: dict[str, tuple[int, int, str]] = {}
    while not ended.is_set():
        try:
            after = {row["name"]: row["digest"] for row in database.rows("after_searches")}
            for row in database.rows("list_studies"):
                state = row["finished"], row["budget"], after.get(row["name"], "")
                if seen.get(row["name"]) != state and not ended.is_set():
                    write_note(database, storage, row["name"])
                    seen[row["name"]] = state
        except (OrchError, optuna.exceptions.StorageInternalError):
            pass  # away, or a role that may only read; the next look tries again
        ended.wait(_LOOK_SECONDS)
    database.close()


def write_note(database: Database, storage: BaseStorage, name: str) -> None:
    """Put the study's verdict into its note; what the user wrote there stays.

    Raises:
        OrchError: the study or the database is away.
    """
    from optuna_dashboard import get_note, save_note

    study = optuna.Study(name, storage)
    verdict = summarise(database, open_study(database, name)).verdict
    before = get_note(study)
    note = with_verdict(before, verdict)
    if note != before:
        save_note(study, note)


def with_verdict(note: str, verdict: list[str]) -> str:
    """The note with this verdict in place of an older one, or at its end."""
    lines = "\n".join(f"* {sentence}" for sentence in verdict)
    ours = f"{_START}{lines}{_END}"
    before, start, rest = note.partition(_START)
    if start and _END in rest:
        return before + ours + rest.partition(_END)[2]
    return f"{note.rstrip()}\n\n{ours}" if note.strip() else ours
