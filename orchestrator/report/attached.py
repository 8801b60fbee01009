"""Files that optuna-dashboard shows in a trial's artifact view, also of a trial that has ended."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import OrchError
from orchestrator.storage.artifacts import PostgresArtifactStore
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy

_LIMIT_BYTES = 16_000_000


@dataclass(frozen=True)
class Picture:
    """One file."""

    filename: str
    mimetype: str
    content: bytes


def attach(
    database: Database, study: StoredStudy, number: int, pictures: Sequence[Picture]
) -> None:
    """Show files at a trial, in place of those of the same name.

    optuna-dashboard keeps what belongs to an ended trial among its study's attributes, because
    Optuna lets nobody write to the trial itself.

    Raises:
        OrchError: there is no such trial.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    row = database.row("trial_of_number", study_id=study.study_id, number=number)
    if row is None:
        raise OrchError(f"study '{study.name}' has no trial {number}")
    start = f"dashboard:artifacts:{row['trial_id']}:"
    store = PostgresArtifactStore(database, _LIMIT_BYTES)
    names = {picture.filename for picture in pictures}
    for old in database.rows("study_attributes", study_id=study.study_id, start=start):
        facts = json.loads(json.loads(old["value_json"]))
        if facts is not None and facts["filename"] in names:
            database.call("delete_study_attribute", study=study.study_id, key=old["key"])
            try:
                store.remove(facts["artifact_id"])
            except ArtifactNotFound:
                continue  # somebody removed it in the dashboard
    for picture in pictures:
        artifact_id = str(uuid.uuid4())
        store.write(artifact_id, io.BytesIO(picture.content))
        facts = {
            "artifact_id": artifact_id,
            "filename": picture.filename,
            "mimetype": picture.mimetype,
            "encoding": None,
        }
        database.call(
            "set_study_system_attribute",
            study=study.study_id,
            key=start + artifact_id,
            value=json.dumps(json.dumps(facts)),
        )
