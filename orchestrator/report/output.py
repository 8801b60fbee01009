"""Output: what a trial printed, whole or as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestrator.errors import OrchError, StorageUnavailable
from orchestrator.report.numbers import counted
from orchestrator.storage.database import Database, Row
from orchestrator.storage.output import Output, read_output
from orchestrator.storage.studies import StoredStudy, open_study

_LOOK_SECONDS = 1.0
# How long after a trial's end its last lines may come, if there are any.
_LAST_SECONDS = 3.0
_LEFT_OUT = "[earlier lines are not kept]\n"


def printed(database: Database, study: StoredStudy, number: int) -> str:
    """What a trial has printed, the newest 64 KiB of each lease; empty: nothing.

    Raises:
        OrchError: the study has no trial of that number.
        StorageError: the database is out of reach.
    """
    trial = find_end(database, study, number)
    outputs = read_output(database, trial["trial_id"])
    return "".join((_LEFT_OUT if each.is_cut else "") + _closed(each.text) for each in outputs)


def follow(database: Database, study: StoredStudy, number: int) -> Iterator[str]:
    """What a trial prints, as it comes, until it ends, and then its retries, one after the other.

    An outage of the database is waited for.

    Raises:
        NoSuchStudy: the study was deleted meanwhile.
        OrchError: the study has no trial of that number.
        StorageError: the database is out of reach when it begins.
    """
    seen: dict[tuple[str, int], int] = {}
    trial, outputs = _look(database, study, number)
    while True:
        for output in outputs:
            yield from _new_lines(output, seen)
        if not _is_over(trial["ended_seconds"], outputs):
            time.sleep(_LOOK_SECONDS)
        elif trial["retried_as"] is None:
            return
        else:
            retry = trial["retried_as"]
            yield f"[trial {number} failed and is retried as trial {retry}]\n"
            number = retry
        trial, outputs = _look_when_in_reach(database, study, number)


def _look(database: Database, study: StoredStudy, number: int) -> tuple[Row, list[Output]]:
    trial = find_end(database, study, number)
    return trial, read_output(database, trial["trial_id"])


def _look_when_in_reach(
    database: Database, study: StoredStudy, number: int
) -> tuple[Row, list[Output]]:
    while True:
        try:
            return _look(database, study, number)
        except StorageUnavailable:
            time.sleep(_LOOK_SECONDS)


def find_end(database: Database, study: StoredStudy, number: int) -> Row:
    """The trial's id, how long ago it ended, and its next attempt.

    Raises:
        NoSuchStudy: the study was deleted.
        OrchError: it has no trial of that number.
    """
    row = database.row("end_of_trial", study_id=study.study_id, number=number)
    if row is None:
        open_study(database, study.name)
        count = counted(
            database.rows("count_trials", study_id=study.study_id)[0]["trials"], "trial"
        )
        raise OrchError(f"study '{study.name}' has no trial {number}; it has {count}")
    return row


def _is_over(ended_seconds: float | None, outputs: list[Output]) -> bool:
    """Whether nothing more comes. A supervisor may store the last lines after the trial's end."""
    if ended_seconds is None:
        return False
    is_whole = bool(outputs) and all(output.ended for output in outputs)
    return is_whole or ended_seconds > _LAST_SECONDS


def _new_lines(output: Output, seen: dict[tuple[str, int], int]) -> Iterator[str]:
    """What was not shown before; a line without an end is shown once nothing more comes."""
    *lines, rest = output.text.split("\n")
    count = output.lines
    if output.ended and rest:
        lines.append(rest)
        count += 1
    new = count - seen.get(output.lease, 0)
    seen[output.lease] = count
    if new > len(lines):
        yield _LEFT_OUT
    if new:
        yield "".join(f"{line}\n" for line in lines[-new:])


def _closed(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"
