"""The terminators by name: when no worthwhile gain is expected any more."""

from __future__ import annotations

import copy
import math
from collections.abc import Container
from typing import TYPE_CHECKING, cast

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.strategy import Strategy, choose, whole_number
from orchestrator.spec.eligibility import may_win
from orchestrator.spec.model import StudySpec

if TYPE_CHECKING:
    from optuna.terminator import BaseTerminator

_MODULE = "optuna.terminator"

EVALUATORS = {
    # H. Makarova et al., "Automatic Termination for Hyperparameter Optimization" (2022).
    "regret": Strategy("RegretBoundEvaluator", _MODULE, package="torch", extra="gp"),
    # H. Ishibashi et al., "A stopping criterion for Bayesian optimization by the gap of expected
    # minimum simple regrets" (2023).
    "emmr": Strategy("EMMREvaluator", _MODULE, package="torch", extra="gp"),
    "stagnation": Strategy("BestValueStagnationEvaluator", _MODULE),
    "none": Strategy("", _MODULE),
}


def build_terminator(spec: StudySpec) -> BaseTerminator | None:
    """The spec's terminator; None where the budget alone ends the study.

    ``min_n_trials`` (default 20) says how many trials must be complete before it may speak; further
    keys go to the Optuna class that judges the gain. The gain is held against the spread between
    folds or repeats where there are any, and else against 0.

    Raises:
        UsageError: unknown name or option, or an impossible value.
    """
    name, options = spec.terminator.name, spec.terminator.options
    strategy = choose(EVALUATORS, "terminator", name)
    if name == "none":
        return None
    from optuna.terminator import CrossValidationErrorEvaluator, StaticErrorEvaluator, Terminator

    least = whole_number("terminator.min_n_trials", options.pop("min_n_trials", 20), 1)
    own = {} if name == "stagnation" else {"min_n_trials": least}
    gain = strategy.build("terminator", options, **own)
    noisy = spec.training.rounds > 1 and name == "regret"
    error = CrossValidationErrorEvaluator() if noisy else StaticErrorEvaluator(0)
    return Terminator(gain, error, min_n_trials=least)


def is_over(terminator: BaseTerminator, study: optuna.Study, spec: StudySpec) -> bool:
    """Whether the terminator expects no worthwhile gain; trials that may not win do not count."""
    return terminator.should_terminate(cast("optuna.Study", _EligibleTrials(study, spec)))


class _EligibleTrials:
    """A study as a terminator sees it: of its complete trials, those that may win.

    Stagnation counts the trials since the best one: there the others stay, with the worst value.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec) -> None:
        self._study = study
        self._constraints = spec.study.constraints
        self._counts_all = spec.terminator.name == "stagnation"

    @property
    def direction(self) -> StudyDirection:
        return self._study.direction

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    def get_trials(self, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        found = []
        for trial in self._study.get_trials(deepcopy=False, states=states):
            if trial.state != TrialState.COMPLETE or may_win(trial, self._constraints):
                found.append(trial)
            elif self._counts_all:
                found.append(self._worst(trial))
        return found

    def _worst(self, trial: FrozenTrial) -> FrozenTrial:
        seen = copy.copy(trial)
        seen.values = [-math.inf if self.direction == StudyDirection.MAXIMIZE else math.inf]
        return seen
