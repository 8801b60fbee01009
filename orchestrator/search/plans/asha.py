"""ASHA with promotion: a free worker trains the best paused trial further, or begins a new one.

L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2.
Every trial is paused at each rung. It may go on while it is among the best third of those that have
reached its rung (``reduction_factor``); those of the highest rung come first. So a new trial costs
one epoch, a promising one does not wait for others, and too early a promotion does no harm: the
better trial is promoted as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.facts import BRACKET, PAUSED, ROUND
from orchestrator.search.plans.plan import Plan, Step
from orchestrator.search.plans.promotion import best_first, fresh, left_of
from orchestrator.search.plans.rounds import Rungs
from orchestrator.spec.eligibility import rank


class AshaPlan(Plan):
    """Promotes at each rung, and queues a new trial where nobody is to be promoted.

    When the budget is used up and nobody trains any more, the best of the highest rung goes on
    until a trial is complete; then the others end.

    Args:
        rungs: their epochs.
        maximize: the direction.
        constraints: user attributes that are constraints, beside those that trials hold.
    """

    def __init__(self, rungs: Rungs, maximize: bool, constraints: Sequence[str] = ()) -> None:
        self._factor = rungs.factor
        self._rungs = rungs.ends(0)[:-1]
        self._maximize = maximize
        self._constraints = constraints

    def size(self) -> None:
        return None

    def step(self, trials: Sequence[FrozenTrial], budget: int) -> Step:
        own = [
            each
            for each in trials
            if BRACKET in each.system_attrs and each.state != TrialState.FAIL
        ]
        left = left_of(budget, trials)
        prune = self._hopeless(own, len(own) + max(0, left))
        for best in self._promotable(own):
            return Step(promote=[best._trial_id], prune=prune)
        if left > 0:
            return Step(queue=[fresh(0)], prune=prune)
        if any(not each.state.is_finished() and PAUSED not in each.system_attrs for each in trials):
            return Step(prune=prune)
        return self._end(own)

    def _promotable(self, trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
        for round_ in reversed(range(len(self._rungs))):
            ranked = self._ranked(trials, round_)
            for each in ranked[: len(ranked) // self._factor]:
                if _is_paused(each, round_) and self._has_number(each, round_):
                    yield each

    def _hopeless(self, trials: Sequence[FrozenTrial], most: int) -> list[int]:
        """Who cannot be promoted: it has no number, or even if all that begin yet are worse."""
        ranked = self._ranked(trials, 0)
        ended = [each for each in ranked[max(most // self._factor, 1) :] if _is_paused(each, 0)]
        for round_ in range(len(self._rungs)):
            ended += [
                each
                for each in trials
                if _is_paused(each, round_) and not self._has_number(each, round_)
            ]
        return sorted({each._trial_id for each in ended})

    def _has_number(self, trial: FrozenTrial, round_: int) -> bool:
        value = trial.intermediate_values.get(self._rungs[round_])
        return rank(value, self._maximize) < math.inf

    def _end(self, trials: Sequence[FrozenTrial]) -> Step:
        """Nobody trains, and no trial is left to begin."""
        paused = [each for each in trials if PAUSED in each.system_attrs]
        numbered = [
            each for each in paused if self._has_number(each, int(each.system_attrs[ROUND]))
        ]
        if numbered and not any(each.state == TrialState.COMPLETE for each in trials):
            highest = max(int(each.system_attrs[ROUND]) for each in numbered)
            best = next(each for each in self._ranked(trials, highest) if each in numbered)
            return Step(promote=[best._trial_id])
        return Step(prune=[each._trial_id for each in paused])

    def _ranked(self, trials: Sequence[FrozenTrial], round_: int) -> list[FrozenTrial]:
        """Those that have reached a rung, the best first."""
        epochs = self._rungs[round_]
        reached = [each for each in trials if epochs in each.intermediate_values]
        return best_first(reached, epochs, self._maximize, self._constraints)


def _is_paused(trial: FrozenTrial, round_: int) -> bool:
    return PAUSED in trial.system_attrs and int(trial.system_attrs[ROUND]) == round_
