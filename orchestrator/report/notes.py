"""Notes: the verdict of each study where optuna-dashboard shows a study's note, kept up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import optuna
from optuna.storages import BaseStorage

from orchestrator.errors import OrchError
from orchestrator.report.section import section
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
    seen: dict[str, tuple[int, int, str]] = {}
    storage: BaseStorage | None = None
    while not ended.is_set():
        with suppress(OrchError):  # away; the next look tries again
            storage = storage or open_optuna_storage(url)
            _look(database, storage, seen, ended)
        ended.wait(_LOOK_SECONDS)
    database.close()


def _look(
    database: Database,
    storage: BaseStorage,
    seen: dict[str, tuple[int, int, str]],
    ended: threading.Event,
) -> None:
    """Write the note of each study that has changed since it was seen."""
    after = {row["name"]: row["digest"] for row in database.rows("after_searches")}
    for row in database.rows("list_studies"):
        name = row["name"]
        state = row["finished"], row["budget"], after.get(name, "")
        if seen.get(name) != state and not ended.is_set():
            write = partial(write_note, database, storage, name)
            # A role that may only read, or a note that fails, costs the others none of theirs.
            if section(f"The note of study {name}", write, lambda line: False):
                seen[name] = state


def write_note(database: Database, storage: BaseStorage, name: str) -> bool:
    """Put the study's verdict into its note; what the user wrote there stays.

    Returns:
        True, once that is done.

    Raises:
        NoSuchStudy: it was deleted meanwhile.
        StorageError: the database is out of reach.
    """
    from optuna_dashboard import get_note, save_note

    study = optuna.Study(name, storage)
    stored = open_study(database, name)
    verdict = section(
        "The verdict", lambda: summarise(database, stored).verdict, lambda line: [line]
    )
    before = get_note(study)
    note = with_verdict(before, verdict)
    if note != before:
        save_note(study, note)
    return True


def with_verdict(note: str, verdict: list[str]) -> str:
    """The note with this verdict in place of an older one, or at its end."""
    lines = "\n".join(f"* {sentence}" for sentence in verdict)
    ours = f"{_START}{lines}{_END}"
    before, start, rest = note.partition(_START)
    if start and _END in rest:
        return before + ours + rest.partition(_END)[2]
    return f"{note.rstrip()}\n\n{ours}" if note.strip() else ours
