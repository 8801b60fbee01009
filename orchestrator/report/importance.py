"""Importances: which parameters decided the value, by two methods.

PED-ANOVA: S. Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces", IJCAI 2023. fANOVA: F. Hutter et al., "An Efficient Approach for Assessing
Hyperparameter Importance", ICML 2014. Both as Optuna has them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.report.sample import TrialSample
from orchestrator.sections import Direction

# fANOVA grows a forest over all trials that it is given; more than these change little.
_MOST_TRIALS_OF_FANOVA = 500


def ped_anova(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Shares of 1, the largest first; empty where too few trials are complete."""
    if not _are_tellable(trials):
        return {}
    return _evaluate(study, trials, optuna.importance.PedAnovaImportanceEvaluator())


def fanova(trials: Sequence[FrozenTrial], direction: Direction) -> dict[str, float]:
    """As :func:`ped_anova`, from 500 complete trials at most, evenly spread over the study."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not _are_tellable(complete):
        return {}
    count = min(len(complete), _MOST_TRIALS_OF_FANOVA)
    places = np.linspace(0, len(complete) - 1, count).astype(int)
    chosen = [complete[place] for place in places]
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, max_depth=16, seed=0)
    return _evaluate(TrialSample(chosen, direction), chosen, evaluator)


def _are_tellable(trials: Sequence[FrozenTrial]) -> bool:
    values = {t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None}
    return len(values) >= 2 and all(map(math.isfinite, values))


def _evaluate(
    study: optuna.Study, trials: Sequence[FrozenTrial], evaluator: Any
) -> dict[str, float]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}  # too few trials have a parameter in common
    varied = {name for name in found if len({trial.params.get(name) for trial in trials}) > 1}
    return {
        name: round(value, 4)
        for name, value in found.items()
        if math.isfinite(value) and name in varied
    }
