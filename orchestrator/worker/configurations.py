"""Configurations: in a finite space, a trial draws one that no other trial of its study has."""

from __future__ import annotations

import random
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.search.finite_space import FiniteSpace
from orchestrator.search.plans import PLANS, is_planned
from orchestrator.search.space import size
from orchestrator.storage.claims import Claims, Writes
from orchestrator.training.base import Objective
from orchestrator.worker.endings import LeaseLost
from orchestrator.worker.seeds import derive
from orchestrator.worker.study import WorkerStudy
from orchestrator.worker.suggestion import SuggestingTrial

# Draws of the sampler, which may know better now; then of what is left, at random.
_SAMPLERS_DRAWS, _MOST_DRAWS = 3, 100
_AT_RANDOM = "random"


class Configurations:
    """Draws the trials of one study in a finite space.

    The server keeps each configuration for one trial, so no two workers draw the same at the same
    time. What was enqueued, and what an earlier attempt has drawn, is never refused.

    Args:
        study: the study.
        objective: its objective.
        claims: the worker's.
    """

    def __init__(self, study: WorkerStudy, objective: Objective, claims: Claims) -> None:
        self._study = study
        self._objective = objective
        self._claims = claims
        self._space = _finite_space(study, objective)
        if self._space is not None:
            self._tell(self._space)

    def draw(self, trial: SuggestingTrial) -> None:
        """Draw every parameter of the objective's space.

        Raises:
            LeaseLost: the trial is no longer this worker's.
        """
        if self._space is None:
            trial.suggest_space(self._objective)
            return
        given = frozenset(trial.frozen.distributions)  # by an earlier attempt
        for place in range(_MOST_DRAWS):
            if place:
                self._study.storage.sync()
                trial.draw_again(given, place, *self._another_way(self._space, trial, place))
            with self._study.storage.holding_params() as params:
                trial.suggest_space(self._objective)
            key = self._space.key(trial.params)
            if key is None:  # with an enqueued value of its own
                self._study.storage.send_params(params)
                return
            is_last = place == _MOST_DRAWS - 1 or trial.drawn_by is None
            held, is_new = self._claims.keep_configuration(
                trial.id, key, Writes(params=params), anyway=is_last
            )
            if not held:
                raise LeaseLost
            if is_new or is_last:
                return

    def _another_way(
        self, space: FiniteSpace, trial: SuggestingTrial, place: int
    ) -> tuple[str | None, dict[str, Any]]:
        """The sampler of a further draw, None for the study's own, and values in place of draws."""
        if place < _SAMPLERS_DRAWS or space.configurations is None:
            return (None if place < _SAMPLERS_DRAWS else _AT_RANDOM), {}
        tried = set(self._keys(space).values())
        left = [
            each
            for each in space.configurations
            if space.key(each) not in tried and _agrees(each, trial)
        ]
        if not left:
            return _AT_RANDOM, {}
        seed = derive(self._study.spec.training.seed, "configuration", trial.number, place)
        return _AT_RANDOM, random.Random(seed).choice(left)

    def _tell(self, space: FiniteSpace) -> None:
        # A study that promotes draws for trials that are queued; it ends with its budget.
        self._study.storage.sync()
        listed = space.configurations
        ends = listed is not None and not is_planned(self._study.spec)
        self._claims.list_configurations(len(listed or ()) if ends else None, self._keys(space))

    def _keys(self, space: FiniteSpace) -> dict[int, str]:
        """The configurations of the trials so far, by the trial's id."""
        trials: list[FrozenTrial] = self._study.storage.all_trials()
        keys = {each._trial_id: space.key(each.params) for each in trials}
        return {trial_id: key for trial_id, key in keys.items() if key is not None}


def _agrees(configuration: dict[str, Any], trial: SuggestingTrial) -> bool:
    """Whether a configuration has what was enqueued, and what an earlier attempt has drawn."""
    given = {**trial.queued, **trial.given}
    return all(configuration.get(name, value) == value for name, value in given.items())


def _finite_space(study: WorkerStudy, objective: Objective) -> FiniteSpace | None:
    """The space whose configurations are each tried once; None where they may be tried again."""
    section = study.spec.sampler
    # These see to it themselves.
    if section.duplicates or section.name in (*PLANS, "bruteforce"):
        return None
    if not objective.space() or size(study.space) is None:
        return None
    return FiniteSpace(study.space, objective.exists)
