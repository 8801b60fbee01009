"""Predict: the winner's model on some digits of the test set."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.report.attached import Picture
from orchestrator.report.pictures import draw_confusion, draw_predictions
from orchestrator.report.trials import read_trials
from orchestrator.report.winner import read_winner
from orchestrator.storage.database import Database
from orchestrator.study import StoredStudy
from orchestrator.training.data import Dataset, load
from orchestrator.training.errors import ObjectiveError
from orchestrator.training.predictions import Prediction, model_summary
from orchestrator.training.predictions import predict as predict_with
from orchestrator.winner.models import kept_models
from orchestrator.winner.prepared import prepare_objective

_MOST_CONFUSED = 1000  # test examples of the confusion matrix


def predict(
    database: Database, study: StoredStudy, model: Path | None, count: int, seed: int
) -> list[Prediction]:
    """What the model says about ``count`` test examples.

    Args:
        database: where the study is.
        study: the study.
        model: a file of ``orch refit``; None: the winner's model, or the next best that was kept.
        count: how many examples.
        seed: which ones.

    Raises:
        OrchError: there is no model, or it does not fit the study's data.
    """
    dataset = _dataset(study)
    if model is None:
        with _kept_model(database, study) as (_, path):
            return _classify(path, dataset, count, seed)
    if not model.is_file():
        raise OrchError(f"no file {model}; make it with: orch refit {study.name} --out {model}")
    return _classify(model, dataset, count, seed)


def explain(
    database: Database, study: StoredStudy, predictions: Sequence[Prediction]
) -> tuple[int, list[Picture]]:
    """What the dashboard shows of the best trial's kept model, beside the predictions' picture.

    Returns:
        The trial's number, and the files: the digits, a confusion matrix, the model's summary.

    Raises:
        OrchError: no model is kept.
    """
    with _kept_model(database, study) as (number, path):
        many = _classify(path, _dataset(study), _MOST_CONFUSED, 0)
        summary = model_summary(path)
    right = sum(each.predicted == each.label for each in predictions)
    title = f"{study.name}: {right} of {len(predictions)} right"
    return number, [
        Picture("digits.png", "image/png", draw_predictions(predictions, title)),
        Picture("confusion.png", "image/png", draw_confusion(many)),
        Picture("model.txt", "text/plain; charset=utf-8", summary.encode()),
    ]


def _dataset(study: StoredStudy) -> Dataset:
    """The data set of this machine, which is checked to be the study's."""
    if study.data is None:
        raise OrchError(f"study '{study.name}' has no data set to predict")
    prepare_objective(study, None)
    try:
        return load(study.spec.data.name or str(study.data["name"]))
    except ObjectiveError as error:
        raise OrchError(str(error)) from None


def _classify(model: Path, dataset: Dataset, count: int, seed: int) -> list[Prediction]:
    try:
        return predict_with(model, dataset, count, seed)
    except ObjectiveError as error:
        raise OrchError(str(error)) from None


@contextmanager
def _kept_model(database: Database, study: StoredStudy) -> Iterator[tuple[int, Path]]:
    """The winner if its model was kept, else the best trial whose was: number, and model file."""
    winner = read_winner(database, study, read_trials(database, study))
    kept = kept_models(database, study, 1, winner.number if winner else None)
    if not kept:
        raise OrchError(
            f"study '{study.name}' has kept no model; make one with: "
            f"orch refit {study.name} --out model{study.facts.model_suffix or '.keras'}, and name "
            "it with --model"
        )
    content = kept[0].read()
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(content)
        yield kept[0].number, path
