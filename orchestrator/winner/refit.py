"""Refit: the winner trained on all training data, evaluated once on the test set, saved."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from psycopg2.extras import Json

from orchestrator.base.files import write_whole
from orchestrator.base.printed import Printed, table_columns
from orchestrator.errors import OrchError, UsageError
from orchestrator.report.listing import table
from orchestrator.report.numbers import number as shown_number
from orchestrator.report.numbers import params_line
from orchestrator.report.render import check_out
from orchestrator.report.winner import count_evaluations, read_winner
from orchestrator.resolve.objective import make_objective
from orchestrator.resolve.pins import versions
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, find_trial
from orchestrator.training.base import Refit
from orchestrator.winner.models import check_keeps_models, holds_weights
from orchestrator.winner.retraining import RecordedStudy, RecordedTrial, retraining
from orchestrator.worker.seeds import derive

PROVENANCE = "orch.json"  # inside a Keras archive, which Keras leaves alone


@dataclass(frozen=True)
class Refitted(Printed):
    """A saved model and where it comes from.

    Attributes:
        path: the file.
        provenance: study, trial, parameters, seed, data, versions, history and test metrics.
        evaluations: how often this study's test set has now been evaluated.
        is_whole: whether Keras can load the file alone; else it holds the weights.
    """

    path: Path
    provenance: dict[str, Any]
    evaluations: int
    is_whole: bool = True

    def __str__(self) -> str:
        return refit_page(self.provenance, table_columns())


def refit(
    database: Database,
    study: StoredStudy,
    trials: list[FrozenTrial],
    out: Path,
    number: int | None,
) -> Refitted:
    """Train, evaluate, and write the model whole.

    Args:
        database: records the refit, and counts the evaluations of the test set.
        study: the study.
        trials: its trials.
        out: the file to write.
        number: the trial to refit; None: the winner.

    Raises:
        UsageError: the file's name does not fit the model.
        OrchError: there is no trial to refit, or the file cannot be written.
    """
    _check_out(study, out)
    frozen = _chosen(database, study, trials, number)
    seed = derive(study.spec.training.seed, "refit", frozen.number)
    trial = RecordedTrial(RecordedStudy(study, frozen, trials), frozen.params, frozen.number, seed)
    with retraining(study, None) as (objective, space):
        trial.suggest_space(space, objective)
        fitted = objective.refit(trial)
        provenance = _provenance(study, frozen, seed, fitted)
        content = _write(fitted, provenance, out)
    evaluations = _record(database, study, provenance, out, content)
    if content is None:
        raise OrchError(
            f"trial {frozen.number} is trained and evaluated (orch report {study.name} has the "
            f"figures), and {out} is not written: Keras cannot save this model, nor its weights"
        )
    return Refitted(out, provenance, evaluations, not holds_weights(content))


def _check_out(study: StoredStudy, out: Path) -> None:
    """Check where the model is to go, before minutes are spent on it."""
    check_keeps_models(study)
    suffix = make_objective(study.spec).model_suffix
    if suffix is None:
        raise OrchError(
            f"the objective {study.spec.study.objective} trains no model, so there is nothing to "
            "refit"
        )
    if out.suffix != suffix:
        raise UsageError(f"--out {out} must end in {suffix}, as model{suffix}")
    check_out(out)


def _chosen(
    database: Database, study: StoredStudy, trials: list[FrozenTrial], number: int | None
) -> FrozenTrial:
    if number is not None:
        return find_trial(trials, number, study.name)
    if len(study.spec.study.metrics) > 1:
        raise UsageError(
            "a study of several metrics has no single best trial; choose one of the Pareto front "
            "with --trial N"
        )
    winner = read_winner(database, study, trials)
    if winner is None:
        raise OrchError(
            f"study '{study.name}' has no complete, feasible trial yet; nothing to refit"
        )
    return find_trial(trials, winner.number, study.name)


def _provenance(
    study: StoredStudy, frozen: FrozenTrial, seed: int, fitted: Refit
) -> dict[str, Any]:
    return {
        "study": study.name,
        "objective": study.spec.study.objective,
        "trial": frozen.number,
        "value": frozen.values[0] if frozen.values and len(frozen.values) == 1 else None,
        "params": frozen.params,
        "seed": seed,
        "data": study.data,
        "spec": study.spec.document(),
        "versions": versions(),
        "history": fitted.history,
        "test": fitted.test,
        "examples": fitted.examples,
        "validated": fitted.validated,
    }


def provenance_of(path: Path) -> dict[str, Any] | None:
    """The provenance inside a model's file, or beside it; None: there is none."""
    beside = path.with_name(f"{path.name}.json")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                facts = json.loads(archive.read(PROVENANCE))
        else:
            facts = json.loads(beside.read_text())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return facts if isinstance(facts, dict) else None


def _write(fitted: Refit, provenance: dict[str, Any], out: Path) -> bytes | None:
    """Put the model in its place, its provenance inside, or beside a file that is no archive.

    Returns:
        What is in the file; None: the model cannot be saved.
    """
    facts = json.dumps(provenance, indent=2, default=str)
    with tempfile.TemporaryDirectory(prefix="orch-") as folder:
        made = Path(folder) / f"model{out.suffix}"
        fitted.save(made)
        if not made.exists():
            return None
        try:
            if zipfile.is_zipfile(made):
                with zipfile.ZipFile(made, "a") as archive:
                    archive.writestr(PROVENANCE, facts)
            else:
                write_whole(out.with_name(f"{out.name}.json"), facts.encode())
            content = made.read_bytes()
            write_whole(out, content)
        except OSError as error:
            raise OrchError(f"cannot write {out}: {error.strerror}") from None
    return content


def _record(
    database: Database,
    study: StoredStudy,
    provenance: dict[str, Any],
    out: Path,
    content: bytes | None,
) -> int:
    """Keep with the study what its report says of the refit: all but what the study has anyway."""
    evaluation = {key: provenance[key] for key in ("trial", "params", "seed", "versions")}
    evaluation |= {
        "value": _stored(provenance["value"]),
        "test": {name: _stored(value) for name, value in provenance["test"].items()},
        "model": None if content is None else out.name,
        "sha256": None if content is None else hashlib.sha256(content).hexdigest(),
    }
    row = database.call("record_test_evaluation", study=study.study_id, evaluation=Json(evaluation))
    return count_evaluations(row["evaluations"])


def _stored(value: float | None) -> float | None:
    """The value as JSON has it, which knows no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def refit_page(provenance: Mapping[str, Any], columns: int | None = None) -> str:
    """A refit: its trial, each epoch's metrics, and the figures on the test set."""
    history: dict[str, list[float]] = provenance["history"]
    epochs = max(map(len, history.values()), default=0)
    rows = [
        [epoch + 1, *(shown_number(values[epoch]) for values in history.values())]
        for epoch in range(epochs)
    ]
    lines = [
        f"trial {provenance['trial']}: {params_line(provenance['params'])}",
        _training_line(provenance),
        *([table(["epoch", *history], rows, columns)] if history else []),
    ]
    if not provenance["test"]:
        if not (provenance["data"] or {}).get("test"):
            lines.append("the data have no test set, so the model has no figure of its own")
        return "\n".join(lines)
    shown = ", ".join(f"{name} {shown_number(value)}" for name, value in provenance["test"].items())
    count = provenance["data"]["test"]
    size = "" if count is None else f"{count} examples, "
    lines.append(f"test set ({size}evaluated once): {shown}")
    return "\n".join(lines)


def _training_line(provenance: Mapping[str, Any]) -> str:
    data, seed = provenance["data"] or {}, f"with seed {provenance['seed']}"
    if provenance.get("validated"):
        return f"trained as in the search, the validation part held out, {seed}"
    examples = provenance.get("examples")
    held_out = data.get("train"), data.get("validation")
    if examples is None and None not in held_out:
        examples = sum(each or 0 for each in held_out)
    if examples is None:
        return f"trained {seed}"
    included = "" if examples == data.get("train") else ", validation included,"
    return f"trained on {examples} examples{included} {seed}"
