"""A finished KerasTuner project folder: ``oracle.json`` and ``trial_*/trial.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.errors import UsageError, nearest
from orchestrator.importers.imported import STILL_RUNNING, ImportedStudy
from orchestrator.storage.studies import KERASTUNER, Origin
from orchestrator.training.hyperparameters import float_domain, int_domain

_STATES = {
    "COMPLETED": TrialState.COMPLETE,
    "STOPPED": TrialState.PRUNED,
    "INVALID": TrialState.FAIL,
    "FAILED": TrialState.FAIL,
    "RUNNING": TrialState.FAIL,
}
_DIRECTIONS = {"max": "maximize", "min": "minimize"}
# What Hyperband keeps among the values of a trial; no hyperparameters of the user's.
_TUNER = "tuner/"


@dataclass(frozen=True)
class _History:
    """A metric of a trial: the mean of each epoch that KerasTuner has kept."""

    direction: str
    values: Mapping[int, float]


@dataclass(frozen=True)
class _KerasTrial:
    """What ``trial.json`` says."""

    trial_id: str
    status: str
    message: str | None
    score: float | None
    values: Mapping[str, Any]
    domains: Mapping[str, BaseDistribution]
    histories: Mapping[str, _History]

    @property
    def has_score(self) -> bool:
        return self.score is not None and not math.isnan(self.score)


def read_project(folder: Path, metric: str | None = None) -> ImportedStudy:
    """Read a project, without KerasTuner. A damaged trial is left out, with a warning.

    Args:
        folder: ``directory/project_name`` of the tuner.
        metric: the objective's name; None: the metric that gives the recorded scores.

    Raises:
        UsageError: the folder is not a KerasTuner project, or no trial has a score or that metric.
    """
    if not (folder / "oracle.json").is_file():
        raise UsageError(
            f"{folder} is no KerasTuner project: it has no oracle.json; name the folder "
            "directory/project_name of the tuner"
        )
    trials, warnings = _read_trials(folder)
    if not trials:
        damaged = f" ({'; '.join(warnings)})" if warnings else ""
        raise UsageError(f"{folder} has no finished trial{damaged}")
    if not any(trial.has_score for trial in trials):
        raise UsageError(f"no trial has a score in {folder}; there is nothing to import")
    chosen = metric or _objective(trials, folder)
    return ImportedStudy(
        metrics=[chosen],
        directions=[_direction(trials, chosen, folder)],
        trials=_frozen_trials(trials, chosen),
        origin=Origin(
            tool=KERASTUNER, source=str(folder), trials=len(trials), has_times=False
        ),
        epochs=_full_epochs(folder, trials),
        warnings=warnings,
    )  # fmt: skip


def _read_trials(folder: Path) -> tuple[list[_KerasTrial], list[str]]:
    """The trials that have run, and a warning for each that cannot be read."""
    trials, warnings = [], []
    for path in sorted(folder.glob("trial_*/trial.json")):
        try:
            text = path.read_text(encoding="utf-8")
            if not text.strip():
                raise ValueError("it is empty")
            document = json.loads(text)
            if document["status"] in _STATES:
                trials.append(_keras_trial(document))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if isinstance(error, KeyError):
                reason = f"it has no {error}"
            warnings.append(f"{path} is damaged, so that trial is left out ({reason})")
    return trials, warnings


def _keras_trial(document: Mapping[str, Any]) -> _KerasTrial:
    """The trial in a whole document; anything may be missing in one that is not."""
    score = document.get("score")
    return _KerasTrial(
        trial_id=str(document["trial_id"]),
        status=document["status"],
        message=document.get("message"),
        score=None if score is None else float(score),
        values=dict(document["hyperparameters"]["values"]),
        domains={
            each["config"]["name"]: _domain(each["class_name"], each["config"])
            for each in document["hyperparameters"]["space"]
        },
        histories={
            name: _History(
                history["direction"],
                # KerasTuner counts epochs from 0.
                {int(each["step"]) + 1: _mean(each["value"]) for each in history["observations"]},
            )
            for name, history in (document.get("metrics") or {}).get("metrics", {}).items()
        },
    )


def _objective(trials: Sequence[_KerasTrial], folder: Path) -> str:
    """The metric whose observations are the scores; KerasTuner does not write its name."""
    possible: set[str] | None = None
    for trial in trials:
        if trial.has_score:
            fitting = {
                name
                for name, history in trial.histories.items()
                if trial.score in history.values.values()
            }
            possible = fitting if possible is None else possible & fitting
    if not possible:
        raise UsageError(f"which metric gave the scores in {folder}? name it with --metric")
    # A validation metric where both fit.
    return min(possible, key=lambda name: (not name.startswith("val_"), name))


def _direction(trials: Sequence[_KerasTrial], metric: str, folder: Path) -> str:
    for trial in trials:
        if metric in trial.histories:
            direction = _DIRECTIONS.get(trial.histories[metric].direction)
            if direction is None:
                raise UsageError(f"{folder} does not say whether more of '{metric}' is better")
            return direction
    known = {name for trial in trials for name in trial.histories}
    raise UsageError(f"no metric '{metric}' in {folder}; {nearest(metric, known)}")


def _full_epochs(folder: Path, trials: Sequence[_KerasTrial]) -> int | None:
    """How many epochs Hyperband trains at most; None: another oracle, which does not say."""
    try:
        told = json.loads((folder / "oracle.json").read_text(encoding="utf-8")).get("max_epochs")
    except (OSError, ValueError, AttributeError):
        told = None
    known = [trial.values.get(f"{_TUNER}epochs") for trial in trials]
    epochs = [each for each in [told, *known] if isinstance(each, int) and each > 0]
    return max(epochs, default=None)


def _frozen_trials(trials: Sequence[_KerasTrial], metric: str) -> list[FrozenTrial]:
    numbers = {trial.trial_id: number for number, trial in enumerate(trials)}
    return [_frozen(number, trial, metric, numbers) for number, trial in enumerate(trials)]


def _frozen(
    number: int, trial: _KerasTrial, metric: str, numbers: Mapping[str, int]
) -> FrozenTrial:
    state, reason = _end(trial)
    params = {
        name: _fitting(trial.values[name], domain)
        for name, domain in trial.domains.items()
        if name in trial.values
    }
    history = trial.histories.get(metric)
    now = datetime.now()  # KerasTuner writes no times, and Optuna wants both
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=trial.score if state != TrialState.FAIL else None,
        datetime_start=now,
        datetime_complete=now,
        params=params,
        distributions={name: _holding(trial.domains[name], params[name]) for name in params},
        user_attrs=_attributes(trial, reason, numbers),
        system_attrs={},
        intermediate_values={} if history is None else dict(history.values),
    )


def _end(trial: _KerasTrial) -> tuple[TrialState, str | None]:
    """The state, and why the trial failed."""
    state = _STATES[trial.status]
    if trial.status == "RUNNING":
        return state, STILL_RUNNING
    if state == TrialState.FAIL:
        lines = [line.strip() for line in (trial.message or "").splitlines() if line.strip()]
        return state, lines[-1] if lines else f"KerasTuner ended it as {trial.status}"
    if trial.score is not None and math.isnan(trial.score):
        return TrialState.FAIL, "its score is NaN"
    if state == TrialState.COMPLETE and trial.score is None:
        return TrialState.FAIL, "it has no score"
    return state, None


def _attributes(
    trial: _KerasTrial, reason: str | None, numbers: Mapping[str, int]
) -> dict[str, Any]:
    found: dict[str, Any] = {"kerastuner:trial_id": trial.trial_id}
    for name, value in trial.values.items():
        if name.startswith(_TUNER):
            found[f"kerastuner:{name}"] = value
    # Hyperband promotes a configuration as a new trial, which goes on from the old one's weights.
    promoted = str(trial.values.get(f"{_TUNER}trial_id"))
    if promoted in numbers:
        found["kerastuner:continues"] = numbers[promoted]
    if reason is not None:
        found[facts.REASON] = reason
    return found


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
