"""One trial, as ``orch show NAME --trial N`` prints it, and what it printed, as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from textwrap import indent
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.errors import OrchError, StorageUnavailable, printable
from orchestrator.report.numbers import counted, duration, number
from orchestrator.spec.eligibility import constraints_of
from orchestrator.storage.database import Database, Row
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import Output, StoredStudy, open_study, read_output, tail

_STATES = {state: state.name.lower() for state in TrialState} | {TrialState.FAIL: "failed"}
_MOST_VALUES = 12  # intermediate ones
_LOOK_SECONDS = 1.0
# How long after a trial's end its last lines may come, if there are any.
_LAST_SECONDS = 3.0
_LEFT_OUT = "[earlier lines are not kept]\n"


def trial_page(database: Database, study: StoredStudy, trial_number: int) -> str:
    """A trial's state, values and parameters, how it ran, why it failed, and what it printed last.

    Raises:
        OrchError: the study has no trial of that number.
        StorageError: the database is out of reach.
    """
    trial_id = _find_end(database, study, trial_number)["trial_id"]
    trial = PostgresStorage(database).get_trial(trial_id)
    place = database.row("place_of_trial", trial_id=trial_id) or {}
    lines = [
        f"trial {trial.number} of study {study.name}: {_STATES[trial.state]}",
        *(f"{name + ':':14} {text}" for name, text in _facts(study, trial, place)),
    ]
    whole = printed(database, study, trial_number)
    if whole:
        more = f"the end of it; all that is kept: orch logs {study.name} {trial.number}"
        lines += [f"printed ({more}):" if tail(whole) != whole else "printed:"]
        lines += [indent(tail(whole).rstrip("\n"), "  ")]
    elif trial.user_attrs.get(facts.LOG):
        lines += ["log:", indent(str(trial.user_attrs[facts.LOG]), "  ")]
    return printable("\n".join(lines))


def _facts(study: StoredStudy, trial: FrozenTrial, place: Row) -> Iterator[tuple[str, str]]:
    """The words and texts of the lines, those without anything to say left out."""
    known = trial.user_attrs
    yield from _attempts(known)
    if facts.REASON in known:
        yield "reason", str(known[facts.REASON])
    for metric, value in zip(study.spec.study.metrics, trial.values or (), strict=False):
        yield metric, number(value)
    for name, value in trial.params.items():
        yield f"  {name}", number(value)
    if trial.intermediate_values:
        yield "reported", _reported(trial.intermediate_values)
    for name, value in constraints_of(trial, study.spec.study.constraints).items():
        yield f"constraint {name}", f"{number(value)} ({'kept' if value <= 0 else 'violated'})"
    yield from _run(trial, place)
    own = {key: value for key, value in known.items() if not key.startswith(facts.PREFIX)}
    for name, value in own.items():
        yield f"attribute {name}", str(value)


def _attempts(known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if facts.RETRY_OF in known:
        attempt = f"; attempt {known[facts.ATTEMPT]}" if facts.ATTEMPT in known else ""
        yield "retry of", f"trial {known[facts.RETRY_OF]}{attempt}"
    if facts.RETRIED_AS in known:
        yield "retried as", f"trial {known[facts.RETRIED_AS]}"
    if facts.LOSSES in known:
        yield "lost leases", str(known[facts.LOSSES])


def _run(trial: FrozenTrial, place: Row) -> Iterator[tuple[str, str]]:
    known = trial.user_attrs
    worker = place.get("worker") or known.get(facts.WORKER)
    if worker:
        silent = place.get("silent_seconds")
        seen = "" if silent is None else f", last seen {duration(silent)} ago"
        threads = known.get(facts.THREADS)
        yield "worker", f"{worker}{f', {threads} CPU threads' if threads else ''}{seen}"
    if trial.datetime_start:
        yield "started", _moment(trial.datetime_start)
    if trial.datetime_complete:
        yield "ended", _moment(trial.datetime_complete)
    seconds = known.get(facts.SECONDS, place.get("leased_seconds"))
    if isinstance(seconds, int | float):
        yield "time", duration(seconds)
    if facts.SEED in known:
        yield "seed", str(known[facts.SEED])
    if known.get(facts.RESTARTS):
        yield "went on after", checkpoints_line(known[facts.RESTARTS])
    if place.get("checkpoint") is not None:
        yield "checkpoint", f"after step {place['checkpoint']}"
    if place.get("has_model"):
        yield "model", "kept"


def checkpoints_line(restarts: Sequence[object]) -> str:
    """After which steps the checkpoints were from which a trial went on."""
    steps = (each[0] if isinstance(each, list) and each else each for each in restarts)
    return ", ".join(f"step {step}" for step in steps)


def _reported(values: Mapping[int, float]) -> str:
    """The values by step; of many, the first and the newest ones."""
    steps = sorted(values)
    shown = [f"{step}: {number(values[step])}" for step in steps]
    if len(shown) > _MOST_VALUES:
        half = _MOST_VALUES // 2
        shown = [*shown[:half], "…", *shown[-half:]]
    return ", ".join(shown)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def printed(database: Database, study: StoredStudy, number: int) -> str:
    """What a trial has printed, the newest 64 KiB of each lease; empty: nothing.

    Raises:
        OrchError: the study has no trial of that number.
        StorageError: the database is out of reach.
    """
    trial = _find_end(database, study, number)
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
    trial = _find_end(database, study, number)
    return trial, read_output(database, trial["trial_id"])


def _look_when_in_reach(
    database: Database, study: StoredStudy, number: int
) -> tuple[Row, list[Output]]:
    while True:
        try:
            return _look(database, study, number)
        except StorageUnavailable:
            time.sleep(_LOOK_SECONDS)


def _find_end(database: Database, study: StoredStudy, number: int) -> Row:
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
