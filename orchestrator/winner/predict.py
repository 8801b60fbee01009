"""What the winner's model says of examples that it was not trained on, and their picture."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from PIL.Image import Image

from orchestrator.base.printed import Printed
from orchestrator.errors import DataError, OrchError, UsageError
from orchestrator.report.render import check_out, write_file
from orchestrator.report.winner import read_winner
from orchestrator.search.space import Space
from orchestrator.storage.artifacts import Picture, attach
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, read_trials
from orchestrator.training import handover
from orchestrator.training.keras import KerasObjective
from orchestrator.training.outputs import Output
from orchestrator.training.predictions import (
    Examples,
    Prediction,
    held_out,
    load_whole,
    outputs_of,
    predictions_of,
    summary_of,
)
from orchestrator.winner.models import (
    KeptModel,
    check_keeps_models,
    kept_models,
    load_model,
    recorded_trial,
    trial_of_model,
)
from orchestrator.winner.pictures import (
    draw_confusion,
    draw_examples,
    draw_images,
    draw_labels,
    draw_scatter,
    png,
)
from orchestrator.winner.refit import provenance_of
from orchestrator.winner.retraining import RecordedStudy, RecordedTrial, retraining
from orchestrator.worker.endings import words_of

_log = logging.getLogger("orch")

_MOST_COUNTED = 1000  # examples of a confusion matrix or a scatter plot


class Predictions(list[Prediction], Printed):
    """What the model says of some examples; prints a line each.

    Attributes:
        examples: of which data they are, in words.
        trial: the trial whose model the dashboard explains now; None: of none.
        missing: why an output is not in the picture, a line each.
    """

    def __init__(self, found: Sequence[Prediction], examples: str) -> None:
        super().__init__(found)
        self.examples = examples
        self.trial: int | None = None
        self.missing: list[str] = []

    def of_output(self, output: str | None) -> Predictions:
        """Those of one output."""
        return Predictions([each for each in self if each.output == output], self.examples)

    @property
    def right(self) -> int:
        """How many are right."""
        return sum(each.is_right is True for each in self)

    @property
    def verdict(self) -> str:
        """How many are right, or how far they are off, of which data."""
        outputs = dict.fromkeys(each.output for each in self)
        parts = [self._verdict_of(output) for output in outputs]
        return f"{'; '.join(parts)} ({self.examples})"

    def _verdict_of(self, output: str | None) -> str:
        found = self.of_output(output)
        start = "" if output is None else f"{output}: "
        judged = [each.is_right for each in found if each.is_right is not None]
        if judged:
            return f"{start}{sum(judged)} of {len(judged)} right"
        errors = [each.error for each in found if each.error is not None]
        if errors:
            mean = sum(errors) / len(errors)
            return f"{start}mean absolute difference {mean:.4g} over {len(errors)} examples"
        return f"{start}{len(found)} examples without labels"

    def __str__(self) -> str:
        return "\n".join(map(str, self))


@dataclass(frozen=True)
class _Model:
    """A model, and the examples that it is asked about.

    Attributes:
        model: of Keras.
        examples: all that may be used.
        trial: of the kept model; None: a file was named.
    """

    model: Any
    examples: Examples
    trial: int | None

    def answers(self, count: int, seed: int) -> tuple[list[Prediction], list[Output]]:
        """What it says of as many random examples, one by one and by output."""
        chosen = self.examples.draw(count, seed)
        outputs = outputs_of(self.model, chosen)
        return predictions_of(outputs, chosen), outputs


def predict_and_draw(
    database: Database,
    study: StoredStudy,
    out: Path | None,
    model: Path | None,
    count: int,
    seed: int,
) -> Predictions:
    """What the model says about ``count`` examples, drawn; the dashboard shows the kept model's.

    Args:
        database: where the study is.
        study: the study.
        out: the picture; None: none is drawn.
        model: a file of ``orch refit``; None: the winner's model, or the next best that was kept.
        count: how many examples.
        seed: which ones.

    Raises:
        UsageError: the picture's name does not end in ``.png``.
        OrchError: there is no model, it does not fit, or the picture cannot be written.
    """
    if out is not None:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out} must end in .png, as digits.png")
        check_out(out)
    check_keeps_models(study)
    if study.data is None:
        raise OrchError(f"study '{study.name}' has no data set to predict")
    if model is not None and not model.is_file():
        raise OrchError(f"no file {model}; make it with: orch refit {study.name} --out {model}")
    trials = read_trials(database, study)
    with retraining(study, None) as (objective, space):
        opened = _open(database, study, trials, objective, space, model, max(count, _MOST_COUNTED))
        found, _ = opened.answers(count, seed)
        predictions = Predictions(found, str(opened.examples))
        if out is None:
            return predictions
        many, outputs = opened.answers(_MOST_COUNTED, 0)
        summary = summary_of(opened.model)
    drawn = _draw(study.name, predictions, Predictions(many, predictions.examples), outputs)
    predictions.missing = drawn.missing
    if drawn.main:
        write_file(png(drawn.main), out)
    if opened.trial is not None:
        attach(database, study, opened.trial, _shown(drawn, summary))
        predictions.trial = opened.trial
    return predictions


def _shown(drawn: _Pictures, summary: str) -> list[Picture]:
    """What the dashboard shows of a kept model."""
    parts = {"predictions.png": drawn.main, **drawn.counted}
    shown = [Picture(name, "image/png", png(each)) for name, each in parts.items() if each]
    return [*shown, Picture("model.txt", "text/plain; charset=utf-8", summary.encode())]


def _open(
    database: Database,
    study: StoredStudy,
    trials: list[FrozenTrial],
    objective: Any,
    space: Space,
    path: Path | None,
    count: int,
) -> _Model:
    """The model, by its objective where Keras cannot load it alone, and its examples.

    Args:
        database: where the study is.
        study: the study.
        trials: its trials.
        objective: the study's.
        space: of its trials.
        path: the model's file; None: the kept model.
        count: how many examples are read at most of what is iterated.
    """
    if not isinstance(objective, KerasObjective):
        raise OrchError(f"study '{study.name}' has no data set to predict")
    winner = read_winner(database, study, trials)
    if path is None:
        [kept] = kept_models(database, study, 1, winner.number if winner else None)
        own = recorded_trial(study, trials, kept.number)
        model = _of_kept(objective, space, own, kept)
        return _Model(model, _examples(study, objective, own, count), kept.number)
    named = _trial_of_file(database, study, trials, path)
    model = _of_file(objective, space, named, path)
    trial = named
    if named is None and winner is not None:  # the data may be made for a trial
        trial = recorded_trial(study, trials, winner.number)
        trial.suggest_space(space, objective)
    return _Model(model, _examples(study, objective, trial, count), None)


def _of_kept(objective: KerasObjective, space: Space, trial: RecordedTrial, kept: KeptModel) -> Any:
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        path = Path(folder) / f"trial-{kept.number:05d}.keras"
        path.write_bytes(kept.read())
        return load_model(objective, space, trial, path)


def _trial_of_file(
    database: Database, study: StoredStudy, trials: list[FrozenTrial], path: Path
) -> RecordedTrial | None:
    """The trial of a model's file, by its provenance or its bytes; None: nothing tells it."""
    facts = provenance_of(path)
    if facts is not None and isinstance(facts.get("params"), dict) and trials:
        seen = RecordedStudy(study, trials[0], trials)
        return RecordedTrial(seen, facts["params"], int(facts["trial"]), int(facts["seed"]))
    number = trial_of_model(database, study, path.read_bytes())
    return None if number is None else recorded_trial(study, trials, number)


def _of_file(
    objective: KerasObjective, space: Space, trial: RecordedTrial | None, path: Path
) -> Any:
    if trial is not None:
        return load_model(objective, space, trial, path)
    try:
        return load_whole(path)
    except DataError as error:
        # Its loss or metrics may be the user's own, and prediction needs neither.
        _log.debug("the model is loaded without its loss: %s", error)
        return load_whole(path, compiled=False)


def _examples(
    study: StoredStudy, objective: KerasObjective, trial: RecordedTrial | None, count: int
) -> Examples:
    try:
        return held_out(objective.rounds(trial), _name_of(study), count)  # type: ignore[arg-type]
    except OrchError:
        raise
    except Exception as error:  # whatever the user's data raise
        raise OrchError(
            f"the data of study '{study.name}' cannot be read: {type(error).__name__}: "
            f"{words_of(error)}"
        ) from error


def _name_of(study: StoredStudy) -> str:
    """The data's name; of arrays that Python has handed over, the start of their digest."""
    name = str((study.data or {})["name"])
    return f"arrays {name.partition(':')[2][:12]}" if handover.is_arrays(name) else name


@dataclass
class _Pictures:
    """What is drawn of all outputs.

    Attributes:
        main: what the user asked for, an output below the other.
        counted: what else the dashboard shows, by file name.
        missing: why an output is not in the main picture, a line each.
    """

    main: list[Image] = field(default_factory=list)
    counted: dict[str, list[Image]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, output: Output, shown: Image | None, counted: Image | None, name: str) -> None:
        """Take the pictures of an output: of the examples shown, and of all that were counted."""
        if shown is None and counted is None:
            self.missing.append(_why_missing(output))
        elif shown is None or counted is None:
            self.main += [each for each in (shown, counted) if each is not None]
        else:
            self.main.append(shown)
            self.counted.setdefault(name, []).append(counted)


def _draw(
    study: str, predictions: Predictions, many: Predictions, outputs: list[Output]
) -> _Pictures:
    """The pictures of each output.

    Args:
        study: its name.
        predictions: the examples that are shown.
        many: those that are counted.
        outputs: of the counted ones.
    """
    pictures = _Pictures()
    for output in outputs:
        shown, counted = predictions.of_output(output.name), many.of_output(output.name)
        title, whole, examples = f"{study}: {shown.verdict}", f"{study}: {counted.verdict}", None
        if output.kind == "images":
            pictures.add(output, draw_images(shown, title), None, "")
            continue
        if output.kind == "numbers":  # its figures are in the picture
            whole = ", ".join(filter(None, (study, output.name))) + f": {counted.examples}"
        elif shown[0].image is not None:
            examples = draw_examples(shown, title)
        draw, name = _COUNTED[output.kind]
        pictures.add(output, examples, draw(output, whole), name)
    return pictures


_COUNTED: dict[str, tuple[Callable[[Output, str], Image | None], str]] = {
    "classes": (draw_confusion, "confusion.png"),
    "labels": (draw_labels, "labels.png"),
    "numbers": (draw_scatter, "scatter.png"),
}


def _why_missing(output: Output) -> str:
    """Why there is no picture of an output."""
    name = "the output" if output.name is None else f"the output '{output.name}'"
    if output.true is None:
        return f"{name} is not drawn: the data have no labels to compare it with"
    if output.kind == "numbers":
        return f"{name} is not drawn: some of its numbers are not finite"
    return f"{name} is not drawn: it has too many {output.kind}"
