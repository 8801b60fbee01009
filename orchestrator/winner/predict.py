"""Predict: the winner's model on some digits of the test set."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from objectives.data import load
from objectives.errors import ObjectiveError
from objectives.predictions import Prediction
from objectives.predictions import predict as predict_with
from orchestrator.errors import OrchError
from orchestrator.storage.artifacts import open_artifacts
from orchestrator.storage.database import Database
from orchestrator.study import StoredStudy
from orchestrator.winner.recorded import prepare_objective


def predict(
    database: Database, study: StoredStudy, model: Path | None, count: int, seed: int
) -> list[Prediction]:
    """What the model says about ``count`` test examples.

    Args:
        database: where the study is.
        study: the study.
        model: a file of ``orch refit``; None: the best trial's model, as the study kept it.
        count: how many examples.
        seed: which ones.

    Raises:
        OrchError: there is no model, or it does not fit the study's data.
    """
    if study.data is None:
        raise OrchError(f"study '{study.name}' has no data set to predict")
    prepare_objective(study, None)
    try:
        dataset = load(study.spec.data.name or str(study.data["name"]))
        with _file(database, study, model) as path:
            return predict_with(path, dataset, count, seed)
    except ObjectiveError as error:
        raise OrchError(str(error)) from None


@contextmanager
def _file(database: Database, study: StoredStudy, model: Path | None) -> Iterator[Path]:
    if model is not None:
        if not model.is_file():
            raise OrchError(f"no file {model}; make it with: orch refit {study.name} --out {model}")
        yield model
        return
    row = database.row(
        "best_model",
        study_id=study.study_id,
        maximize=study.spec.study.directions[0] == "maximize",
    )
    if row is None:
        raise OrchError(
            f"study '{study.name}' has kept no model; make one with: "
            f"orch refit {study.name} --out model.keras, and name it with --model"
        )
    settings = study.spec.worker
    store = open_artifacts(settings.artifacts, database, settings.artifact_limit_mb)
    content = store.open_reader(row["artifact_id"]).read()
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        raise OrchError(
            f"the kept model of study '{study.name}' is damaged; make one with: "
            f"orch refit {study.name} --out model.keras"
        )
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(content)
        yield path
