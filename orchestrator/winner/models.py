"""The models of the best trials, as their workers kept them (``worker.keep_models``)."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from orchestrator.base.files import write_whole
from orchestrator.errors import DataError, OrchError
from orchestrator.search.space import Space
from orchestrator.spec.command import is_command
from orchestrator.storage.artifacts import ArtifactDamaged, open_artifacts, read_artifact
from orchestrator.storage.database import Database, Row
from orchestrator.storage.studies import StoredStudy, find_trial
from orchestrator.training.base import Objective
from orchestrator.training.predictions import load_whole
from orchestrator.winner.retraining import RecordedStudy, RecordedTrial, retraining
from orchestrator.worker.endings import words_of
from orchestrator.worker.seeds import training_seed

if TYPE_CHECKING:
    from orchestrator.base.optuna_internals import ArtifactStore

_log = logging.getLogger("orch")

_HDF5 = b"\x89HDF\r\n\x1a\n"


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


def check_keeps_models(study: StoredStudy) -> None:
    """Refuse what needs a model of a command.

    Raises:
        OrchError: the study's objective is a command.
    """
    if is_command(study.spec.study.objective):
        raise OrchError(
            f"study '{study.name}' runs a command, and a command keeps no model; let it write its "
            "model itself"
        )


def kept_models(
    database: Database, study: StoredStudy, top: int, winner: int | None = None
) -> list[KeptModel]:
    """The kept models of the winner, if it has one, and of the best of the search: ``top`` in all.

    Args:
        database: where the study is.
        study: the study.
        top: how many at most.
        winner: the number of the trial that comes first.

    Raises:
        OrchError: none is kept.
    """
    settings = study.spec.worker
    store = open_artifacts(settings.artifacts, database, settings.artifact_limit_mb)
    rows = _best_rows(database, study, top)
    if not rows:
        check_keeps_models(study)
        raise OrchError(
            f"study '{study.name}' has kept no model; make one with: "
            f"orch refit {study.name} --out model{study.facts.model_suffix or '.keras'}"
        )
    rows = sorted(rows, key=lambda row: row["number"] != winner)[:top]
    return [KeptModel(row["number"], row["artifact_id"], row["sha256"], store) for row in rows]


def write_models(
    database: Database, study: StoredStudy, folder: Path, top: int, winner: int | None
) -> list[Path]:
    """Write the kept models of the best ``top`` trials, as ``trial-00017.keras``.

    Of a model that Keras cannot save whole there are the weights, as ``trial-00017.weights.h5``.
    See :func:`kept_models`.

    Raises:
        OrchError: none is kept, one is damaged, or the folder cannot be written.
    """
    models = {}
    for each in kept_models(database, study, top, winner):
        content = each.read()
        suffix = ".weights.h5" if holds_weights(content) else ".keras"
        models[folder / f"trial-{each.number:05d}{suffix}"] = content
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in models.items():
            write_whole(path, content)
    except OSError as error:
        raise OrchError(f"cannot write in {folder}: {error.strerror}") from None
    return list(models)


def holds_weights(content: bytes) -> bool:
    """Whether a model's file has its weights alone."""
    return content.startswith(_HDF5)


def best_model(
    database: Database, study: StoredStudy, trials: list[FrozenTrial], winner: int | None
) -> Any:
    """The winner's model, or the next best that was kept.

    Args:
        database: where the study is.
        study: the study.
        trials: its trials.
        winner: the winner's number.

    Raises:
        OrchError: none is kept, it is damaged, or this machine cannot rebuild it.
    """
    [kept] = kept_models(database, study, 1, winner)
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        path = Path(folder) / f"trial-{kept.number:05d}.keras"
        path.write_bytes(kept.read())
        try:
            return load_whole(path)
        except DataError as error:
            _log.debug("the model is rebuilt by its objective: %s", error)
        with retraining(study, None) as (objective, space):
            trial = recorded_trial(study, trials, kept.number)
            return load_model(objective, space, trial, path)


def recorded_trial(study: StoredStudy, trials: list[FrozenTrial], number: int) -> RecordedTrial:
    """A trial with its recorded parameters, for what is built or loaded by them.

    Raises:
        OrchError: the study has no trial of that number.
    """
    frozen = find_trial(trials, number, study.name)
    seed = training_seed(study.spec.training.seed, frozen)
    return RecordedTrial(RecordedStudy(study, frozen, trials), frozen.params, number, seed)


def load_model(objective: Objective, space: Space, trial: RecordedTrial, path: Path) -> Any:
    """A model by Keras alone, else built by the objective and given the saved weights.

    Args:
        objective: as :func:`retraining` gives it.
        space: likewise.
        trial: of the model.
        path: of its file.

    Raises:
        OrchError: the file is not a model of the trial, or the objective cannot build it.
    """
    try:
        trial.suggest_space(space, objective)
        return objective.load(trial, path)
    except OrchError:
        raise
    except Exception as error:  # whatever the user's build raises
        raise OrchError(
            f"the model of trial {trial.number} cannot be built again: {type(error).__name__}: "
            f"{words_of(error)}"
        ) from error


def trial_of_model(database: Database, study: StoredStudy, content: bytes) -> int | None:
    """The number of the trial whose kept model has these bytes; None: of none."""
    digest = hashlib.sha256(content).hexdigest()
    rows = _best_rows(database, study, 1)
    return next((row["number"] for row in rows if row["sha256"] == digest), None)


def _best_rows(database: Database, study: StoredStudy, top: int) -> list[Row]:
    """The kept models of the best trials: all that are kept, or ``top`` where that is more."""
    return database.rows(
        "best_models",
        study_id=study.study_id,
        maximize=study.spec.study.maximize,
        top=max(top, study.spec.worker.keep_models),
    )
