"""Artifacts: checkpoints and kept models, and the stores where they lie. Optuna's own interface.

Optuna's stores are imported where one is asked for: they bring the clients of every cloud that is
installed, which costs each command a quarter of its start.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psycopg2

from orchestrator.base.extras import install
from orchestrator.base.files import write_whole
from orchestrator.errors import OrchError, StorageError, UsageError
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy
from orchestrator.storage.url import mask

if TYPE_CHECKING:
    from orchestrator.base.optuna_internals import ArtifactStore

_log = logging.getLogger("orch")

_CHUNK_BYTES = 1024 * 1024
_YIELD_SECONDS = 0.001


class ArtifactTooLarge(OrchError):
    """The artifact is above the study's size cap."""


class ArtifactDamaged(ValueError):
    """The artifact's bytes are not those that were written."""


class PostgresArtifactStore:
    """Keeps artifacts in the study's own database, in chunks, with a checksum.

    Args:
        database: where; its connection is free for others between two chunks.
        limit_bytes: the largest artifact that is taken.
    """

    def __init__(self, database: Database, limit_bytes: int) -> None:
        self._database = database
        self._limit_bytes = limit_bytes

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store all of ``content_body``, chunk by chunk.

        No transaction holds the connection meanwhile, so heartbeats pass. An artifact that lacks a
        chunk is not found; a worker that joins removes what was cut off a day ago or earlier.

        Raises:
            ArtifactTooLarge: it is above the cap; nothing is stored.
            StorageError: the database is out of reach.
        """
        content = content_body.read()
        if len(content) > self._limit_bytes:
            raise ArtifactTooLarge(
                f"an artifact of {len(content) / 1e6:.1f} MB is above the cap of "
                f"{self._limit_bytes / 1e6:.0f} MB; raise worker.artifact_limit_mb, or set "
                "worker.artifacts to a shared folder or s3://BUCKET"
            )
        try:
            self._database.call(
                "add_artifact",
                artifact=artifact_id,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
            for part, start in enumerate(range(0, len(content), _CHUNK_BYTES)):
                body = psycopg2.Binary(content[start : start + _CHUNK_BYTES])
                self._database.call("add_chunk", artifact=artifact_id, part=part, body=body)
                # Whoever waits for the connection gets it now: locks keep no queue.
                time.sleep(_YIELD_SECONDS)
        except Exception:
            with contextlib.suppress(StorageError):
                self._database.call("remove_artifact", artifact=artifact_id)
            raise

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The artifact's bytes.

        Raises:
            ArtifactNotFound: there is none of that name, or a chunk of it is missing.
        """
        facts = self._database.row("read_artifact", artifact_id=artifact_id)
        if facts is None:
            raise _not_found(f"no artifact {artifact_id}")
        parts = []
        for part in range(-(-facts["size"] // _CHUNK_BYTES)):
            row = self._database.row("read_chunk", artifact_id=artifact_id, part=part)
            if row is None:
                raise _not_found(f"artifact {artifact_id} lacks its part {part}")
            parts.append(bytes(row["body"]))
        return io.BytesIO(b"".join(parts))

    def remove(self, artifact_id: str) -> None:
        """Remove the artifact.

        Raises:
            ArtifactNotFound: there is none of that name.
        """
        if not self._database.call("remove_artifact", artifact=artifact_id)["removed"]:
            raise _not_found(f"no artifact {artifact_id}")


class FolderArtifactStore:
    """Keeps artifacts in a folder that all machines share; a file is there whole or not at all.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        from optuna.artifacts import FileSystemArtifactStore

        self._folder = folder
        self._files = FileSystemArtifactStore(folder)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The artifact's content.

        Raises:
            ArtifactNotFound: there is none of that name.
        """
        return self._files.open_reader(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an artifact.

        Raises:
            OSError: the folder does not take it.
        """
        write_whole(self._folder / artifact_id, content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Remove the artifact.

        Raises:
            ArtifactNotFound: there is none of that name.
        """
        self._files.remove(artifact_id)


def open_artifacts(where: str, database: Database, limit_mb: int) -> ArtifactStore:
    """The store that a spec names.

    Args:
        where: ``"postgresql"``, a folder, ``s3://BUCKET`` or ``gs://BUCKET``.
        database: the study's database.
        limit_mb: the largest artifact that PostgreSQL takes, in millions of bytes.

    Raises:
        UsageError: it cannot be used; the message says what is missing.
    """
    check_artifacts(where)
    if where == "postgresql":
        return PostgresArtifactStore(database, limit_mb * 1_000_000)
    if "://" in where:
        kind, _, bucket = where.partition("://")
        return _cloud(kind, bucket.rstrip("/"))
    folder = Path(where).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"worker.artifacts '{where}' cannot be used: {error.strerror}") from None
    return FolderArtifactStore(folder)


def check_artifacts(where: str) -> None:
    """Check how a spec names a store.

    Raises:
        UsageError: no store is named like that.
    """
    if "://" in where and not re.fullmatch(r"(s3|gs)://[^/@:]+/?", where):
        raise UsageError(
            f"worker.artifacts '{mask(where)}': write postgresql, a folder, s3://BUCKET or gs://BUCKET"
        )


def write_artifact(store: ArtifactStore, content: bytes) -> tuple[str, str]:
    """Store an artifact under a new name. Returns the name, and the SHA-256 of the content."""
    artifact_id = str(uuid.uuid4())
    store.write(artifact_id, io.BytesIO(content))
    return artifact_id, hashlib.sha256(content).hexdigest()


def read_artifact(store: ArtifactStore, artifact_id: str, sha256: str) -> bytes:
    """The whole content of an artifact.

    Raises:
        ArtifactDamaged: it has another SHA-256.
        Exception: whatever the store raises for what is not there.
    """
    content = store.open_reader(artifact_id).read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactDamaged("its checksum is wrong")
    return content


def remove_artifacts(store: ArtifactStore, artifact_ids: list[str]) -> None:
    """Remove artifacts that nobody needs; one that is gone already is no fault."""
    for artifact_id in artifact_ids:
        try:
            store.remove(artifact_id)
        except Exception as error:  # each store raises its own
            _log.debug("artifact %s: %s", artifact_id, error)


def _cloud(kind: str, bucket: str) -> ArtifactStore:
    from optuna.artifacts import Boto3ArtifactStore, GCSArtifactStore

    store, extra = (Boto3ArtifactStore, "s3") if kind == "s3" else (GCSArtifactStore, "gcs")
    try:
        made: ArtifactStore = store(bucket)
    except ImportError:
        raise UsageError(
            f"worker.artifacts {kind}://{bucket} needs an extra; {install(extra)}"
        ) from None
    return made


def _not_found(message: str) -> Exception:
    from optuna.artifacts.exceptions import ArtifactNotFound

    return ArtifactNotFound(message)


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
        OrchError: the study has no trial of that number.
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
