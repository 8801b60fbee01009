"""A study of another tool, and how it is stored as one of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from psycopg2.extras import Json

from orchestrator.errors import OrchError, UsageError
from orchestrator.resolve.facts import ObjectiveFacts
from orchestrator.resolve.objective import IMPORTED
from orchestrator.resolve.resolve import Resolved, resolve
from orchestrator.spec import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.optuna_storage import make_rdb_storage
from orchestrator.study import StoredStudy, delete, insert, open_study, read


@dataclass(frozen=True)
class ImportedStudy:
    """What another tool knows of a study.

    Attributes:
        metrics: names, one for each direction.
        directions: ``"minimize"`` or ``"maximize"``.
        trials: ended trials in their order.
        note: where it comes from, in Markdown.
        attributes: its user attributes.
    """

    metrics: Sequence[str]
    directions: Sequence[str]
    trials: Sequence[FrozenTrial]
    note: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GoingOn:
    """How an imported study goes on.

    Attributes:
        objective: None: it can only be read.
        data: the data set; None: the objective's own.
        epochs: of a full trial; None: as many values as a trial has reported.
    """

    objective: str | None = None
    data: str | None = None
    epochs: int | None = None


def store(database: Database, name: str, imported: ImportedStudy, going_on: GoingOn) -> StoredStudy:
    """Store an imported study under a name; it is there whole or not at all.

    Args:
        database: where.
        name: the new study's name.
        imported: the study.
        going_on: with what it may go on.

    Raises:
        UsageError: the name is taken, or the objective is unknown.
        OrchError: the data cannot be had.
    """
    if read(database, name) is not None:
        raise UsageError(f"study '{name}' exists already; choose another name")
    # Under a name that no command takes, until all of it is there.
    spec = _spec(f"{name}.importing", imported, going_on)
    resolved = _readable(spec) if going_on.objective is None else resolve(spec)
    left = read(database, spec.study.name)
    if left is not None:  # an earlier import was cut off
        database.rows("delete_study", study_id=left.study_id)
    stored = insert(database, resolved)
    try:
        _copy(database.url, stored, imported)
        database.rows("rename_study", study_id=stored.study_id, name=name, spec_name=Json(name))
    except BaseException:
        delete(database, stored)
        raise
    return open_study(database, name)


def _copy(url: str, stored: StoredStudy, imported: ImportedStudy) -> None:
    storage = make_rdb_storage(url)
    try:
        for trial in imported.trials:
            storage.create_new_trial(stored.study_id, template_trial=trial)
        for key, value in imported.attributes.items():
            storage.set_study_user_attr(stored.study_id, key, value)
    except OrchError:
        raise
    except Exception as error:  # Optuna and each driver raise their own
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise OrchError(f"cannot store the trials of this study: {reason}") from None
    finally:
        storage.engine.dispose()


def _readable(spec: StudySpec) -> Resolved:
    """A study without an objective; what it searched is found in its trials."""
    facts = ObjectiveFacts(spec.training.epochs, has_epochs=True, space={}, further={})
    return Resolved(spec, facts=facts)


def _spec(name: str, imported: ImportedStudy, going_on: GoingOn) -> StudySpec:
    ended = [
        trial
        for trial in imported.trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    steps = max((len(trial.intermediate_values) for trial in imported.trials), default=0)
    document: dict[str, Any] = {
        "study": {
            "name": name,
            "objective": going_on.objective or IMPORTED,
            "metric": list(imported.metrics),
            "direction": list(imported.directions),
            "trials": max(1, len(ended)),
            "note": imported.note,
        },
        "pruner": {"name": "none"},
        "training": {"epochs": going_on.epochs or max(1, steps)},
        "data": {} if going_on.data is None else {"name": going_on.data},
    }
    return StudySpec.parse(document)
