"""Hyperband with promotion: brackets of rounds, whose best go on from where they stopped.

L. Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18
(2018). When a whole bracket has ended its round, the best are promoted to the next round and the
others are pruned. Workers that would wait start the next bracket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.facts import BRACKET, PAUSED, ROUND
from orchestrator.search.plans.plan import Configuration, Plan, Step
from orchestrator.search.plans.rounds import Brackets
from orchestrator.spec.eligibility import known_infeasible, rank


class PromotionPlan(Plan):
    """Queues the brackets one after the other, and promotes within each.

    Args:
        brackets: their sizes and epochs.
        maximize: the direction.
        constraints: user attributes that are constraints, beside those that trials hold.
    """

    def __init__(self, brackets: Brackets, maximize: bool, constraints: Sequence[str] = ()) -> None:
        self._brackets = brackets
        self._maximize = maximize
        self._constraints = constraints

    def size(self) -> None:
        return None

    def step(self, trials: Sequence[FrozenTrial], budget: int) -> Step:
        groups: dict[int, list[FrozenTrial]] = {}
        for trial in trials:
            if BRACKET in trial.system_attrs:
                groups.setdefault(int(trial.system_attrs[BRACKET]), []).append(trial)
        for members in groups.values():
            active = [trial for trial in members if not trial.state.is_finished()]
            if active and all(PAUSED in trial.system_attrs for trial in active):
                return self._end_round(active)
        # A bracket's place in the sequence of all brackets is its name.
        place = max(groups, default=-1) + 1
        left = left_of(budget, trials)
        count = min(left, self._brackets.size(self._brackets.bracket(place), 0))
        return Step(queue=[fresh(place)] * max(0, count))

    def _end_round(self, active: list[FrozenTrial]) -> Step:
        bracket = self._brackets.bracket(int(active[0].system_attrs[BRACKET]))
        round_ = int(active[0].system_attrs[ROUND])
        epochs = self._brackets.ends(bracket)[round_]
        ranked = best_first(active, epochs, self._maximize, self._constraints)
        keep = self._brackets.size(bracket, round_ + 1)
        return Step(
            promote=[trial._trial_id for trial in ranked[:keep]],
            prune=[trial._trial_id for trial in ranked[keep:]],
        )


def fresh(place: int) -> tuple[Configuration, dict[str, Any]]:
    """A new trial of a bracket, whose parameters the study's sampler draws when it is taken."""
    return {}, {BRACKET: place, ROUND: 0}


def left_of(budget: int, trials: Sequence[FrozenTrial]) -> int:
    """How many trials may still begin."""
    return budget - sum(trial.state != TrialState.FAIL for trial in trials)


def best_first(
    trials: Sequence[FrozenTrial], epochs: int, maximize: bool, constraints: Sequence[str]
) -> list[FrozenTrial]:
    """Trials by their value after some epochs; what cannot win comes last, whatever its value."""

    def place_of(trial: FrozenTrial) -> tuple[bool, float, int]:
        value = rank(trial.intermediate_values.get(epochs), maximize)
        return known_infeasible(trial, constraints), value, trial.number

    return sorted(trials, key=place_of)
