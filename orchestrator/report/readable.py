"""The storage as a dashboard shows it: orch's attributes in plain words."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.study._multi_objective import _get_pareto_front_trials_by_trials
from optuna.trial import FrozenTrial, TrialState

from orchestrator.choices import domain_of, place_of
from orchestrator.eligibility import constraints_of, may_win
from orchestrator.ranking import rank
from orchestrator.report.words import duration
from orchestrator.storage.database import Database
from orchestrator.storage.optuna_storage import make_rdb_storage

_WORDS = {
    "orch:worker": "worker",
    "orch:seconds": "time",
    "orch:threads": "CPU threads",
    "orch:seed": "seed",
    "orch:restarts": "went on from checkpoint after",
    "orch:reason": "reason",
    "orch:log": "log",
    "orch:attempt": "attempt",
    "orch:losses": "times lost",
    "orch:retry_of": "retry of trial",
    "orch:retried_as": "retried as trial",
}


class ReadableStorage(_CachedStorage):
    """Optuna's storage; what is read of a trial has readable attributes, and what is only for
    the orchestrator is left out.

    Args:
        url: the database.
    """

    def __init__(self, url: str) -> None:
        super().__init__(make_rdb_storage(url))
        self._database = Database(url)
        self._readable: dict[int, tuple[FrozenTrial, dict[str, Any]]] = {}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        artifacts = self._artifacts(trial_id=trial_id)
        return self._shown(super().get_trial(trial_id), artifacts.get(trial_id, {}))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy=False, states=states)
        artifacts = self._artifacts(study_id=study_id)
        return [self._shown(trial, artifacts.get(trial._trial_id, {})) for trial in trials]

    def _artifacts(
        self, study_id: int | None = None, trial_id: int | None = None
    ) -> dict[int, dict[str, Any]]:
        """The notes of artifacts by trial. Models are kept, and fall out, after a trial has ended,
        when Optuna takes the trial from its cache."""
        found: dict[int, dict[str, Any]] = {}
        rows = self._database.rows("artifacts_of_trials", study_id=study_id, trial_id=trial_id)
        for row in rows:
            found.setdefault(row["trial_id"], {})[row["key"]] = json.loads(row["value_json"])
        return found

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        complete = self.get_all_trials(study_id, states=[TrialState.COMPLETE])
        able = [trial for trial in complete if may_win(trial)]
        if not able:  # the page needs one to show; it marks it as infeasible
            return super().get_best_trial(study_id)
        maximize = self.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
        return min(able, key=lambda trial: (rank(trial.value, maximize), trial.number))

    def _shown(self, trial: FrozenTrial, artifacts: dict[str, Any]) -> FrozenTrial:
        known, artifacts_known = self._readable.get(trial._trial_id, (None, None))
        if known is not None and artifacts == artifacts_known:
            return known
        shown = FrozenTrial.__new__(FrozenTrial)
        shown.__dict__.update(trial.__dict__)
        shown._user_attrs = readable(trial.user_attrs)
        for name, domain in trial.distributions.items():
            if isinstance(domain, CategoricalDistribution) and not _has_hash(domain):
                _show_choices_as_text(shown, name, domain)
        others = {k: v for k, v in with_list_of_constraints(trial).items() if not _is_artifact(k)}
        shown._system_attrs = {**others, **artifacts}
        if trial.state.is_finished():
            self._readable[trial._trial_id] = shown, artifacts
        return shown


def _has_hash(domain: CategoricalDistribution) -> bool:
    """Whether optuna-dashboard can put the choices into a set; lists and dicts it cannot."""
    return not any(isinstance(choice, list | dict) for choice in domain.choices)


def _show_choices_as_text(trial: FrozenTrial, name: str, domain: CategoricalDistribution) -> None:
    """The choices as the page writes them anyway. The trial's own mappings stay as they are."""
    words = [str(each) if isinstance(each, list | dict) else each for each in domain.choices]
    value = words[place_of(domain, trial.params[name])]
    trial.distributions = {**trial.distributions, name: domain_of(words)}
    trial.params = {**trial.params, name: value}


def _is_artifact(key: str) -> bool:
    return key.startswith("artifacts:")


def with_list_of_constraints(trial: FrozenTrial) -> dict[str, Any]:
    """The trial's system attributes, its constraints as a list: optuna-dashboard reads no other."""
    found = constraints_of(trial)
    if not found:
        return trial.system_attrs
    others = {k: v for k, v in trial.system_attrs.items() if not k.startswith("constraints:")}
    return {**others, "constraints": list(found.values())}


def feasible_front(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """The Pareto front of the trials that may win, in place of optuna-dashboard's own."""
    return _get_pareto_front_trials_by_trials(list(filter(may_win, trials)), directions)


def readable(attributes: dict[str, Any]) -> dict[str, Any]:
    """A trial's user attributes in plain words, the user's own untouched and first."""
    own = {key: value for key, value in attributes.items() if not key.startswith("orch:")}
    ours = {word: attributes[key] for key, word in _WORDS.items() if key in attributes}
    if isinstance(ours.get("time"), int | float):
        ours["time"] = duration(ours["time"])
    return own | {word: value for word, value in ours.items() if value is not None}
