"""What the winner's model says of test examples, and their picture."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from orchestrator.base.printed import Printed
from orchestrator.errors import OrchError, UsageError
from orchestrator.report.render import check_out, write_file
from orchestrator.report.winner import read_winner
from orchestrator.storage.artifacts import Picture, attach
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, read_trials
from orchestrator.training.data import Dataset
from orchestrator.training.predictions import Prediction, model_summary
from orchestrator.training.predictions import predict as predict_with
from orchestrator.winner.models import kept_models
from orchestrator.winner.retraining import retraining

Counts = NDArray[np.int_]  # by true class, then predicted class

_COLUMNS = 5
_SIDE = 140  # pixels of one digit's square
_MARGIN = 12
_TEXT = 44  # pixels of height for the two lines below a digit
_CELL = 44  # pixels of one count's square
_RIGHT, _WRONG = (32, 110, 60), (190, 30, 30)


def draw_predictions(predictions: Sequence[Prediction], title: str) -> bytes:
    """A PNG: five digits a row, the prediction under each; wrong ones in a red frame.

    Args:
        predictions: what to show.
        title: a line above.
    """
    rows = -(-len(predictions) // _COLUMNS)
    cell_width, cell_height = _SIDE + _MARGIN, _SIDE + _TEXT + _MARGIN
    size = (_COLUMNS * cell_width + _MARGIN, rows * cell_height + _TEXT + _MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=ImageFont.load_default(18))
    for place, each in enumerate(predictions):
        row, column = divmod(place, _COLUMNS)
        _draw_one(picture, draw, each, _MARGIN + column * cell_width, _TEXT + row * cell_height)
    output = io.BytesIO()
    picture.save(output, "PNG")
    return output.getvalue()


def draw_confusion(predictions: Sequence[Prediction]) -> bytes:
    """A PNG: a row each true class, a column each predicted one; counts, wrong ones in red.

    Args:
        predictions: one or more.
    """
    classes = 1 + max(max(each.label, each.predicted) for each in predictions)
    counts = np.zeros((classes, classes), dtype=int)
    for each in predictions:
        counts[each.label, each.predicted] += 1
    side = (classes + 1) * _CELL + 2 * _MARGIN
    picture = Image.new("RGB", (side, side + _TEXT), "white")
    draw = ImageDraw.Draw(picture)
    right = int(np.trace(counts))
    title = f"{right} of {len(predictions)} test examples right"
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=ImageFont.load_default(16))
    draw.text(
        (_MARGIN, _MARGIN + 20), "rows: true, columns: predicted", fill="black",
        font=ImageFont.load_default(12),
    )  # fmt: skip
    for row in range(-1, classes):
        for column in range(-1, classes):
            at = (_MARGIN + (column + 1) * _CELL, _TEXT + _MARGIN + (row + 1) * _CELL)
            _draw_cell(draw, at, row, column, counts)
    output = io.BytesIO()
    picture.save(output, "PNG")
    return output.getvalue()


def _draw_cell(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], row: int, column: int, counts: Counts
) -> None:
    middle = (at[0] + _CELL // 2, at[1] + _CELL // 2)
    if row < 0 or column < 0:
        name = max(row, column)
        if name >= 0:
            font = ImageFont.load_default(15)
            draw.text(middle, str(name), fill="black", font=font, anchor="mm")
        return
    count = int(counts[row, column])
    share = count / max(1, int(counts[row].sum()))
    strong = _RIGHT if row == column else _WRONG
    light = tuple(round(255 + (each - 255) * min(1.0, share * 4) ** 0.5) for each in strong)
    box = (*at, at[0] + _CELL - 2, at[1] + _CELL - 2)
    draw.rectangle(box, fill=light if count else (245, 245, 245))
    if count:
        ink = "white" if share > 0.1 else "black"
        font = ImageFont.load_default(13)
        draw.text(middle, str(count), fill=ink, font=font, anchor="mm")


def _draw_one(
    picture: Image.Image, draw: ImageDraw.ImageDraw, each: Prediction, left: int, top: int
) -> None:
    pixels = each.image.astype(np.float64)
    low, high = pixels.min(), pixels.max()
    dark = 255 - 255 * (pixels - low) / (high - low or 1)
    digit = Image.fromarray(dark.astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    picture.paste(digit.convert("RGB"), (left, top))
    wrong = each.predicted != each.label
    colour = _WRONG if wrong else _RIGHT
    frame = (left - 2, top - 2, left + _SIDE + 1, top + _SIDE + 1)
    draw.rectangle(frame, outline=colour, width=4 if wrong else 1)
    line = f"{each.predicted} ({each.probability:.0%})"
    draw.text((left, top + _SIDE + 4), line, fill=colour, font=ImageFont.load_default(16))
    if wrong:
        draw.text(
            (left, top + _SIDE + 22), f"wrong: it is {each.label}", fill=colour,
            font=ImageFont.load_default(14),
        )  # fmt: skip


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
            return predict_with(path, dataset, count, seed)
    if not model.is_file():
        raise OrchError(f"no file {model}; make it with: orch refit {study.name} --out {model}")
    return predict_with(model, dataset, count, seed)


class Predictions(list[Prediction], Printed):
    """What the model says of some test examples; prints a line each.

    Attributes:
        trial: the trial whose model the dashboard explains now; None: of none.
    """

    trial: int | None = None

    @property
    def right(self) -> int:
        """How many are right."""
        return sum(each.is_right for each in self)

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def predict_and_draw(
    database: Database,
    study: StoredStudy,
    out: Path | None,
    model: Path | None,
    count: int,
    seed: int,
) -> Predictions:
    """As :func:`predict`, and a picture; of the kept model the dashboard has it as well.

    Raises:
        UsageError: the picture's name does not end in ``.png``.
        OrchError: there is no model, it does not fit, or the picture cannot be written.
    """
    if out is not None:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out} must end in .png, as digits.png")
        check_out(out)
    predictions = Predictions(predict(database, study, model, count, seed))
    if out is not None:
        write_file(draw_predictions(predictions, _title(study, predictions)), out)
        if model is None:
            predictions.trial, pictures = explain(database, study, predictions)
            attach(database, study, predictions.trial, pictures)
    return predictions


def _title(study: StoredStudy, predictions: Sequence[Prediction]) -> str:
    right = sum(each.is_right for each in predictions)
    return f"{study.name}: {right} of {len(predictions)} right"


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
        many = predict_with(path, _dataset(study), _MOST_CONFUSED, 0)
        summary = model_summary(path)
    drawn = draw_predictions(predictions, _title(study, predictions))
    return number, [
        Picture("digits.png", "image/png", drawn),
        Picture("confusion.png", "image/png", draw_confusion(many)),
        Picture("model.txt", "text/plain; charset=utf-8", summary.encode()),
    ]


def _dataset(study: StoredStudy) -> Dataset:
    """The data set of this machine, which is checked to be the study's."""
    if study.data is None:
        raise OrchError(f"study '{study.name}' has no data set to predict")
    with retraining(study, None) as (objective, _):
        dataset = getattr(objective, "dataset", None)
    if not isinstance(dataset, Dataset):
        raise OrchError(f"study '{study.name}' has no data set to predict")
    return dataset


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
