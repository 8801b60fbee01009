"""A finished KerasTuner project folder: ``oracle.json`` and ``trial_*/trial.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.errors import OrchError, UsageError, nearest
from orchestrator.imports.imported import ImportedStudy
from orchestrator.training.hyperparameter_domains import float_domain, int_domain

_STATES = {
    "COMPLETED": TrialState.COMPLETE,
    "STOPPED": TrialState.PRUNED,
    "INVALID": TrialState.FAIL,
    "FAILED": TrialState.FAIL,
}
_DIRECTIONS = {"max": "maximize", "min": "minimize"}


def read_project(folder: Path, metric: str | None = None) -> ImportedStudy:
    """Read a project, without KerasTuner.

    Args:
        folder: ``directory/project_name`` of the tuner.
        metric: the objective's name; None: the metric that gives the recorded scores.

    Raises:
        UsageError: the folder is no KerasTuner project, or has no such metric.
        OrchError: a file in it is damaged.
    """
    if not (folder / "oracle.json").is_file():
        raise UsageError(
            f"{folder} is no KerasTuner project: it has no oracle.json; name the folder "
            "directory/project_name of the tuner"
        )
    documents = [
        document
        for path in sorted(folder.glob("trial_*/trial.json"))
        if (document := _read(path)).get("status") in _STATES
    ]
    if not documents:
        raise UsageError(f"{folder} has no finished trial")
    chosen = metric or _objective(documents, folder)
    directions = {
        _metrics(document)[chosen]["direction"]
        for document in documents
        if chosen in _metrics(document)
    }
    if not directions:
        known = {name for document in documents for name in _metrics(document)}
        raise UsageError(f"no metric '{chosen}' in {folder}; {nearest(chosen, known)}")
    return ImportedStudy(
        metrics=[chosen],
        directions=[_DIRECTIONS[str(directions.pop())]],
        trials=[_trial(document, chosen, folder) for document in documents],
        note=f"Imported from the KerasTuner project {folder.name}.",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OrchError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise OrchError(f"{path} is damaged ({error}); remove its folder, or restore it") from None
    if not isinstance(document, dict):
        raise OrchError(f"{path} is damaged (no object); remove its folder, or restore it")
    return document


def _metrics(document: Mapping[str, Any]) -> dict[str, Any]:
    metrics: dict[str, Any] = document.get("metrics", {}).get("metrics", {})
    return metrics


def _objective(documents: list[dict[str, Any]], folder: Path) -> str:
    """The metric whose observations are the scores; KerasTuner does not write its name."""
    possible: set[str] | None = None
    for document in documents:
        score = document.get("score")
        if score is not None:
            fitting = {
                name
                for name, history in _metrics(document).items()
                if score in [_mean(each["value"]) for each in history["observations"]]
            }
            possible = fitting if possible is None else possible & fitting
    if not possible:
        raise UsageError(f"which metric gave the scores in {folder}? name it with --metric")
    # A validation metric where both fit.
    return min(possible, key=lambda name: (not name.startswith("val_"), name))


def _trial(document: Mapping[str, Any], metric: str, folder: Path) -> FrozenTrial:
    try:
        values = document["hyperparameters"]["values"]
        domains = {
            each["config"]["name"]: _domain(each["class_name"], each["config"])
            for each in document["hyperparameters"]["space"]
        }
        state = _STATES[document["status"]]
        observations = _metrics(document).get(metric, {}).get("observations", [])
        params = {name: _fitting(values[name], domains[name]) for name in values if name in domains}
        trial = create_trial(
            state=state,
            value=document.get("score") if state != TrialState.FAIL else None,
            params=params,
            distributions={
                name: _holding(domain, params[name])
                for name, domain in domains.items()
                if name in params
            },
            intermediate_values={
                # KerasTuner counts epochs from 0.
                int(each["step"]) + 1: _mean(each["value"])
                for each in observations
            },
            user_attrs={
                "kerastuner:trial_id": document.get("trial_id"),
                **{f"kerastuner:{n}": v for n, v in values.items() if n.startswith("tuner/")},
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OrchError(
            f"trial {document.get('trial_id')} in {folder} is damaged ({error}); remove its "
            "folder, or restore it"
        ) from None
    return trial


def _domain(kind: str, config: Mapping[str, Any]) -> BaseDistribution:
    if kind == "Choice":
        return CategoricalDistribution(tuple(config["values"]))
    if kind == "Boolean":
        return CategoricalDistribution((False, True))
    if kind == "Fixed":
        return CategoricalDistribution((config["value"],))
    numbers = (config["min_value"], config["max_value"], config["step"], config["sampling"])
    return (
        int_domain(config["name"], *numbers)
        if kind == "Int"
        else float_domain(config["name"], *numbers)
    )


def _fitting(value: Any, domain: BaseDistribution) -> Any:
    if isinstance(domain, CategoricalDistribution):
        # What KerasTuner computed and what we compute may differ in the last digit.
        for choice in domain.choices:
            same = isinstance(choice, float) and isinstance(value, float)
            if same and abs(choice - value) <= 1e-9 * abs(value):
                return choice
    return value


def _holding(domain: BaseDistribution, value: Any) -> BaseDistribution:
    """The domain; with a value of KerasTuner's that it lacks (reverse_log), that value added."""
    if isinstance(domain, CategoricalDistribution) and value not in domain.choices:
        return CategoricalDistribution((*domain.choices, value))
    return domain


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
