"""Artifacts: whole or not there, in the database or in a folder."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto import mock_aws
from optuna.artifacts._protocol import ArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from orchestrator.errors import UsageError
from orchestrator.storage.artifacts import (
    ArtifactTooLarge,
    FolderArtifactStore,
    PostgresArtifactStore,
    open_artifacts,
    remove_artifacts,
)
from orchestrator.storage.database import Database
from orchestrator.worker.checkpoints import Checkpoint


@pytest.fixture(params=["postgresql", "folder", "s3"])
def store(
    request: pytest.FixtureRequest,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ArtifactStore]:
    """Each store; S3 is moto's, because no real one is within reach of a test."""
    with mock_aws():
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="artifacts")
        where = {"folder": str(tmp_path / "artifacts"), "s3": "s3://artifacts"}
        yield open_artifacts(where.get(request.param, "postgresql"), database, limit_mb=8)


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 17])
def test_a_written_artifact_reads_back(store: ArtifactStore, name: str, size: int) -> None:
    content = np.random.default_rng(0).bytes(size)
    store.write(name, io.BytesIO(content))
    assert store.open_reader(name).read() == content
    store.remove(name)
    with pytest.raises(ArtifactNotFound):
        store.open_reader(name)


def test_a_missing_artifact_is_not_found(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound):
        store.open_reader("never")
    remove_artifacts(store, ["never"])  # and nobody minds


def test_an_artifact_above_the_limit_is_not_stored(database: Database, name: str) -> None:
    store = PostgresArtifactStore(database, limit_bytes=10)
    with pytest.raises(ArtifactTooLarge, match=r"raise worker\.artifact_limit_mb"):
        store.write(name, io.BytesIO(b"12345678901"))
    with pytest.raises(ArtifactNotFound):
        store.open_reader(name)


def test_an_interrupted_write_leaves_nothing(database: Database, name: str) -> None:
    store = PostgresArtifactStore(database, limit_bytes=10_000_000)
    database.execute(
        "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.part = 2 THEN RAISE 'disk full'; END IF; RETURN NEW; END $$"
    )
    database.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON orch.artifact_chunk "
        "FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()"
    )
    try:
        with pytest.raises(Exception, match="disk full"):
            store.write(name, io.BytesIO(bytes(4 * 1024 * 1024)))
    finally:
        database.execute("DROP TRIGGER refuse ON orch.artifact_chunk")
    with pytest.raises(ArtifactNotFound):
        store.open_reader(name)


def test_a_missing_chunk_is_detected(database: Database, name: str) -> None:
    store = PostgresArtifactStore(database, limit_bytes=10_000_000)
    store.write(name, io.BytesIO(bytes(3 * 1024 * 1024)))
    database.execute(
        "DELETE FROM orch.artifact_chunk WHERE artifact_id = %(id)s AND part = 1", {"id": name}
    )
    with pytest.raises(ArtifactNotFound, match="part 1"):
        store.open_reader(name)


def test_a_folder_store_never_shows_a_partial_file(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("pulled the plug")

    with pytest.raises(OSError, match="pulled the plug"):
        FolderArtifactStore(tmp_path).write("half", Broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["http://bucket", "s3://", "ftp://x/y"])
def test_an_unknown_store_is_refused(database: Database, where: str) -> None:
    with pytest.raises(UsageError, match="write postgresql, a folder, s3://BUCKET or gs://BUCKET"):
        open_artifacts(where, database, limit_mb=1)


def test_a_checkpoint_reads_back_equal_and_holds_no_python_objects() -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(7, np.int64)}
    made = Checkpoint(4, arrays, {"seed": 11, "values": {"1": 0.5}})
    back = Checkpoint.decode(made.encode())
    assert (back.step, back.facts) == (4, made.facts)
    assert all(np.array_equal(back.arrays[key], arrays[key]) for key in arrays)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        Checkpoint(1, {"a": np.array([object()])}).encode()


@pytest.mark.parametrize("kept", [0, 20, 300])
def test_a_truncated_checkpoint_is_damaged(kept: int) -> None:
    content = Checkpoint(4, {"a": np.arange(100.0)}).encode()
    with pytest.raises(ValueError, match=r"damaged|zip|pickle"):
        Checkpoint.decode(content[:kept])
