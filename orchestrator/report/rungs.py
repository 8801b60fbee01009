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


class Rung(BaseModel):
    """One rung. ``resource`` is in epochs (reported steps); the counts are trials."""

    bracket: int
    resource: int
    reached: int
    passed: int


def bracket_of(study: optuna.Study, pruner: BasePruner | None, trial: FrozenTrial) -> int | None:
    """The bracket of a trial; None where the pruner has no brackets."""
    if isinstance(pruner, HyperbandPruner):
        if not pruner._pruners:
            pruner._try_initialization(study)
        return pruner._get_bracket_id(study, trial)
    return 0 if isinstance(pruner, SuccessiveHalvingPruner) else None


def rungs(
    study: optuna.Study,
    pruner: BasePruner | None,
    trials: list[FrozenTrial],
    options: Mapping[str, Any],
) -> list[Rung]:
    """The rung table of a study under Hyperband or ASHA; empty under any other pruner.

    Args:
        study: the study.
        pruner: its pruner.
        trials: all its trials.
        options: the spec's options of the pruner.
    """
    by_bracket: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        bracket = bracket_of(study, pruner, trial)
        if bracket is not None:
            by_bracket.setdefault(bracket, []).append(trial)
    factor = int(options.get("reduction_factor", 3 if isinstance(pruner, HyperbandPruner) else 4))
    least = int(options.get("min_resource", 1))
    early = int(options.get("min_early_stopping_rate", 0))
    table = []
    for bracket, members in sorted(by_bracket.items()):
        furthest = max((trial.last_step or 0 for trial in members), default=0)
        resource = least * factor ** (early + bracket)
        while resource <= furthest:
            table.append(_rung(bracket, resource, members))
            resource *= factor
    return table


def _rung(bracket: int, resource: int, members: list[FrozenTrial]) -> Rung:
    reached = [trial for trial in members if (trial.last_step or 0) >= resource]
    passed = [
        trial
        for trial in reached
        if trial.state == TrialState.COMPLETE or (trial.last_step or 0) > resource
    ]
    return Rung(bracket=bracket, resource=resource, reached=len(reached), passed=len(passed))
