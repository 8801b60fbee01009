"""The storage as a dashboard shows it: orch's attributes in plain words."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.report.words import duration
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
        self._readable: dict[int, FrozenTrial] = {}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._shown(super().get_trial(trial_id))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy=False, states=states)
        return [self._shown(trial) for trial in trials]

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        known = self._readable.get(trial._trial_id)
        if known is not None:
            return known
        shown = FrozenTrial.__new__(FrozenTrial)
        shown.__dict__.update(trial.__dict__)
        shown._user_attrs = readable(trial.user_attrs)
        if trial.state.is_finished():
            self._readable[trial._trial_id] = shown
        return shown


def readable(attributes: dict[str, Any]) -> dict[str, Any]:
    """A trial's user attributes in plain words, the user's own untouched and first."""
    own = {key: value for key, value in attributes.items() if not key.startswith("orch:")}
    ours = {word: attributes[key] for key, word in _WORDS.items() if key in attributes}
    if isinstance(ours.get("time"), int | float):
        ours["time"] = duration(ours["time"])
    return own | {word: value for word, value in ours.items() if value is not None}
