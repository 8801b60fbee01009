"""A study of another tool, and how it is stored as one of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.errors import OrchError, UsageError
from orchestrator.resolve.pins import software_of
from orchestrator.resolve.resolve import resolve
from orchestrator.search.plans import is_planned
from orchestrator.spec.facts import ObjectiveFacts
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import (
    IMPORTED,
    KERASTUNER,
    NewStudy,
    Origin,
    StoredStudy,
    insert_rows,
    open_study,
    read,
)

# One statement writes this many trials, or those with this many reported values: each is answered
# within seconds.
_MOST_TRIALS, _MOST_VALUES = 250, 20_000
_LARGEST_STEP = 2**31 - 1
_LONGEST_NAME = 512
_TRIAL_NOTE = re.compile(r"dashboard:(\d+):(note_.*)")

STILL_RUNNING = "end unknown: it was running when the study was imported"


@dataclass(frozen=True)
class ImportedStudy:
    """What another tool knows of a study.

    Attributes:
        metrics: names, one for each direction.
        directions: ``"minimize"`` or ``"maximize"``.
        trials: all of them; their places here become their numbers.
        origin: where it comes from.
        note: the user's own note, in Markdown.
        attributes: its user attributes.
        system_attributes: those of Optuna and its dashboard.
        epochs: of a full trial; None: as many values as a trial has reported.
        warnings: what could not be taken over, a sentence each.
    """

    metrics: Sequence[str]
    directions: Sequence[str]
    trials: Sequence[FrozenTrial]
    origin: Origin
    note: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    system_attributes: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class GoingOn:
    """How an imported study goes on.

    Attributes:
        objective: None: it can only be read.
        data: the data set; None: the objective's own.
        epochs: of a full trial; None: as the imported trials have it.
    """

    objective: str | None = None
    data: str | None = None
    epochs: int | None = None


def store(
    database: Database,
    name: str,
    imported: ImportedStudy,
    going_on: GoingOn,
    progress: Callable[[int], None] | None = None,
) -> StoredStudy:
    """Store an imported study under a name; it is there whole or not at all.

    Args:
        database: where.
        name: the new study's name.
        imported: the study.
        going_on: with what it may go on.
        progress: is told how many trials are written.

    Raises:
        UsageError: the name is taken, or the objective is unknown.
        OrchError: the data are unavailable, or a trial cannot be stored.
    """
    if read(database, name) is not None:
        raise UsageError(f"study '{name}' exists already; choose another name")
    for trial in imported.trials:
        _check(trial)
    spec = _spec(name, imported, going_on)
    readable = going_on.objective is None
    resolved = _readable(spec, imported.origin) if readable else resolve(spec)
    try:
        with database.transaction():
            _write(database, resolved, imported, progress)
    except ValueError as error:  # a text that PostgreSQL does not take, a value outside its domain
        reason = " ".join(str(error).split())[:200]
        raise OrchError(f"cannot store the trials of this study: {reason}") from None
    return open_study(database, name)


def _readable(spec: StudySpec, origin: Origin) -> NewStudy:
    """A study without an objective; what it searched is found in its trials."""
    # Of an import only KerasTuner's trials are known to train in epochs.
    in_epochs = origin.tool == KERASTUNER
    facts = ObjectiveFacts(spec.training.epochs, has_epochs=in_epochs, space={}, further={})
    software = software_of(spec.study.objective)
    return NewStudy(spec, is_planned(spec), software, facts=facts)


def _write(
    database: Database,
    resolved: NewStudy,
    imported: ImportedStudy,
    progress: Callable[[int], None] | None,
) -> None:
    study_id = insert_rows(database, resolved)
    storage = PostgresStorage(database)
    ids: dict[int, int] = {}
    for number, trials in _batches(imported.trials):
        ids |= storage.add_trials(study_id, number, trials)
        if progress is not None:
            progress(len(ids))
    _store_attributes(storage, study_id, imported, ids)


def _store_attributes(
    storage: PostgresStorage, study_id: int, imported: ImportedStudy, ids: Mapping[int, int]
) -> None:
    for key, value in imported.attributes.items():
        if not key.startswith(facts.PREFIX):  # what an orch elsewhere knew of its own study
            storage.set_study_user_attr(study_id, key, value)
    storage.set_study_user_attr(study_id, facts.IMPORTED, imported.origin.model_dump())
    new_ids = {trial._trial_id: ids[number] for number, trial in enumerate(imported.trials)}
    for key, value in imported.system_attributes.items():
        note = _TRIAL_NOTE.fullmatch(key)  # optuna-dashboard names the trial by its id
        if note is None:
            storage.set_study_system_attr(study_id, key, value)
        elif int(note[1]) in new_ids:
            own = f"dashboard:{new_ids[int(note[1])]}:{note[2]}"
            storage.set_study_system_attr(study_id, own, value)


def _batches(trials: Sequence[FrozenTrial]) -> Iterator[tuple[int, list[FrozenTrial]]]:
    """The trials in parts, each with its first trial's number."""
    batch: list[FrozenTrial] = []
    values = 0
    for number, trial in enumerate(trials):
        batch.append(trial)
        values += len(trial.intermediate_values)
        if len(batch) == _MOST_TRIALS or values >= _MOST_VALUES:
            yield number + 1 - len(batch), batch
            batch, values = [], 0
    if batch:
        yield len(trials) - len(batch), batch


def _check(trial: FrozenTrial) -> None:
    """Whether Optuna's tables in PostgreSQL can hold it.

    Raises:
        OrchError: they cannot; the message names the trial and what is too large.
    """
    far = [step for step in trial.intermediate_values if abs(step) > _LARGEST_STEP]
    if far:
        raise OrchError(
            f"trial {trial.number} reports a value at step {far[0]}; PostgreSQL stores steps up "
            f"to {_LARGEST_STEP}"
        )
    for name in [*trial.params, *trial.user_attrs, *trial.system_attrs]:
        if len(name) > _LONGEST_NAME or not _is_text(name):
            raise OrchError(
                f"trial {trial.number} has the parameter or attribute {json.dumps(name[:40])}…; "
                f"PostgreSQL stores names of up to {_LONGEST_NAME} characters, without NUL or "
                "surrogates"
            )


def _is_text(name: str) -> bool:
    return "\0" not in name and not any("\ud800" <= sign <= "\udfff" for sign in name)


def _spec(name: str, imported: ImportedStudy, going_on: GoingOn) -> StudySpec:
    # What waits there is work for whoever takes the study on; without an objective nobody does.
    counted = {TrialState.COMPLETE, TrialState.PRUNED}
    if going_on.objective is not None:
        counted.add(TrialState.WAITING)
    budget = sum(1 for trial in imported.trials if trial.state in counted)
    steps = max((len(trial.intermediate_values) for trial in imported.trials), default=0)
    origin = imported.origin
    sentence = f"Imported from {origin.made_by}: {origin.place}."
    document: dict[str, Any] = {
        "study": {
            "name": name,
            "objective": going_on.objective or IMPORTED,
            "metric": list(imported.metrics),
            "direction": list(imported.directions),
            "trials": max(1, budget),
            "note": f"{imported.note}\n\n{sentence}" if imported.note else sentence,
        },
        "pruner": {"name": "none"},
        "training": {"epochs": going_on.epochs or imported.epochs or max(1, steps)},
        "data": {} if going_on.data is None else {"name": going_on.data},
    }
    return StudySpec.parse(document)
