"""The models of the best trials, as their workers kept them (``worker.keep_models``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.base.files import write_whole
from orchestrator.errors import OrchError
from orchestrator.storage.artifacts import ArtifactDamaged, open_artifacts, read_artifact
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy

if TYPE_CHECKING:
    from orchestrator.base.optuna_internals import ArtifactStore


@dataclass(frozen=True)
class KeptModel:
    """One trial's model.

    Attributes:
        number: the trial's.
        artifact_id: its name in the store.
        sha256: of its bytes.
        store: where it lies.
    """

    number: int
    artifact_id: str
    sha256: str
    store: ArtifactStore

    def read(self) -> bytes:
        """The model's file.

        Raises:
            OrchError: it is gone or damaged.
        """
        try:
            return read_artifact(self.store, self.artifact_id, self.sha256)
        except OrchError:
            raise
        except ArtifactDamaged:
            raise OrchError(
                f"the kept model of trial {self.number} is damaged; make one with orch refit"
            ) from None
        except Exception as error:  # whatever a store raises for what is not there
            raise OrchError(f"the model of trial {self.number} cannot be read: {error}") from None


def kept_models(
    database: Database, study: StoredStudy, top: int, winner: int | None = None
) -> list[KeptModel]:
    """The kept models of the winner, if it has one, and of the best of the search: ``top`` in all.

    Args:
        database: where the study is.
        study: the study.
        top: how many at most.
        winner: the number of the trial that comes first.
    """
    settings = study.spec.worker
    store = open_artifacts(settings.artifacts, database, settings.artifact_limit_mb)
    rows = database.rows(
        "best_models",
        study_id=study.study_id,
        maximize=study.spec.study.maximize,
        top=max(top, settings.keep_models),
    )
    rows = sorted(rows, key=lambda row: row["number"] != winner)[:top]
    return [KeptModel(row["number"], row["artifact_id"], row["sha256"], store) for row in rows]


def write_models(
    database: Database, study: StoredStudy, folder: Path, top: int, winner: int | None
) -> list[Path]:
    """Write the kept models of the best ``top`` trials, as ``trial-00017.keras``.

    See :func:`kept_models`.

    Raises:
        OrchError: none is kept, one is damaged, or the folder cannot be written.
    """
    kept = kept_models(database, study, top, winner)
    if not kept:
        raise OrchError(
            f"study '{study.name}' has kept no model; make one with: "
            f"orch refit {study.name} --out model{study.facts.model_suffix or '.keras'}"
        )
    models = {folder / f"trial-{each.number:05d}.keras": each.read() for each in kept}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in models.items():
            write_whole(path, content)
    except OSError as error:
        raise OrchError(f"cannot write in {folder}: {error.strerror}") from None
    return list(models)
