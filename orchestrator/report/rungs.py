"""Hyperband's brackets and rungs: how many trials reached each, how many went on.

L. Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
JMLR 18 (2018); the asynchronous rungs are those of L. Li et al., "A System for Massively
Parallel Hyperparameter Tuning" (2020), as Optuna implements them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel

from orchestrator.base.facts import BRACKET
from orchestrator.base.optuna_internals import bracket_of, bracket_pruners
from orchestrator.search.plans.promotion import Brackets, bracket_at


class Rung(BaseModel):
    """One rung. ``resource`` is in epochs (reported steps); the counts are trials."""

    bracket: int
    resource: int
    reached: int
    passed: int


class Ladder:
    """The brackets of a study, and the resources of their rungs.

    Args:
        study: the study.
        pruner: its pruner; None where it cannot be made here.
        options: the spec's options of the pruner.
        brackets: of Hyperband with promotion.
    """

    def __init__(
        self,
        study: optuna.Study,
        pruner: BasePruner | None,
        options: Mapping[str, Any],
        brackets: Brackets | None,
    ) -> None:
        self._study = study
        self._pruner = pruner
        self._brackets = brackets
        by_hyperband = isinstance(pruner, HyperbandPruner)
        self._factor = int(options.get("reduction_factor", 3 if by_hyperband else 4))
        least = options.get("min_resource", 1)
        # ASHA's "auto": each process finds its own, from a trial that is complete.
        self._least = int(least) if least != "auto" else None
        self._early = int(options.get("min_early_stopping_rate", 0))

    def bracket_of(self, trial: FrozenTrial) -> int | None:
        """The bracket of a trial; None where the pruner has no brackets."""
        if self._brackets is not None:
            place = trial.system_attrs.get(BRACKET)
            return None if place is None else bracket_at(int(place), self._brackets.count)
        if isinstance(self._pruner, HyperbandPruner):
            bracket_pruners(self._pruner, self._study)
            return bracket_of(self._pruner, self._study, trial)
        return 0 if isinstance(self._pruner, SuccessiveHalvingPruner) else None

    def rungs(self, trials: list[FrozenTrial]) -> list[Rung]:
        """The rung table; empty under a pruner without brackets."""
        by_bracket: dict[int, list[FrozenTrial]] = {}
        for trial in trials:
            bracket = self.bracket_of(trial)
            if bracket is not None:
                by_bracket.setdefault(bracket, []).append(trial)
        return [
            _rung(bracket, resource, members)
            for bracket, members in sorted(by_bracket.items())
            for resource in self._resources(bracket, members)
        ]

    def _resources(self, bracket: int, members: list[FrozenTrial]) -> list[int]:
        if self._brackets is not None:
            return [self._brackets.epochs(bracket, each) for each in range(bracket + 1)]
        if self._least is None:
            return []
        furthest = max((trial.last_step or 0 for trial in members), default=0)
        resources = []
        resource = self._least * self._factor ** (self._early + bracket)
        while resource <= furthest:
            resources.append(resource)
            resource *= self._factor
        return resources


def _rung(bracket: int, resource: int, members: list[FrozenTrial]) -> Rung:
    reached = [trial for trial in members if (trial.last_step or 0) >= resource]
    passed = [
        trial
        for trial in reached
        if trial.state == TrialState.COMPLETE or (trial.last_step or 0) > resource
    ]
    return Rung(bracket=bracket, resource=resource, reached=len(reached), passed=len(passed))
