"""One trial, as ``orch show NAME --trial N`` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from textwrap import indent
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.errors import printable
from orchestrator.report.numbers import duration, number
from orchestrator.report.output import find_end, printed
from orchestrator.spec.eligibility import constraints_of
from orchestrator.storage.database import Database, Row
from orchestrator.storage.output import tail
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy

_STATES = {state: state.name.lower() for state in TrialState} | {TrialState.FAIL: "failed"}
_MOST_VALUES = 12  # intermediate ones


def trial_page(database: Database, study: StoredStudy, trial_number: int) -> str:
    """A trial's state, values and parameters, how it ran, why it failed, and what it printed last.

    Raises:
        OrchError: the study has no trial of that number.
        StorageError: the database is out of reach.
    """
    trial_id = find_end(database, study, trial_number)["trial_id"]
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
        yield "went on after", ", ".join(f"step {step}" for step in known[facts.RESTARTS])
    if place.get("checkpoint") is not None:
        yield "checkpoint", f"after step {place['checkpoint']}"
    if place.get("has_model"):
        yield "model", "kept"


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
