"""May this trial win, and which value is better: the one rule of the whole project."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

# Eligibility: may this trial win?
#
# It is complete, all its values are finite, and every constraint is at most 0. Constraints are
# those of Optuna (``FrozenTrial.constraints``), which ``trial.set_constraint`` sets. A name in
# ``study.constraints`` is a user attribute that the server writes as such a constraint when the
# trial ends. Missing or NaN counts as violated. ``functions/eligibility.sql`` has the same rule.

# Stands for infinity, which optuna-dashboard's page and some samplers cannot read.
_FAR = 1e9
# An attribute may be a whole number that no float holds.
_MOST = 1e300


def violation(value: Any) -> float:
    """A constraint's value as a finite number; above 0, or not a number, is violated."""
    if isinstance(value, float) and not math.isfinite(value):
        return -_FAR if value == -math.inf else _FAR
    if not isinstance(value, int | float):
        return _FAR
    return float(max(-_MOST, min(value, _MOST)))


def constraints_of(trial: FrozenTrial, names: Sequence[str] = ()) -> dict[str, float]:
    """The trial's constraints by name, as finite numbers.

    Args:
        trial: the trial; it may be running.
        names: user attributes that are constraints too, unless the trial holds one of that name.
    """
    named = {name: trial.user_attrs.get(name) for name in names}
    return {key: violation(value) for key, value in {**named, **trial.constraints}.items()}


def feasible(trial: FrozenTrial, names: Sequence[str] = ()) -> bool | None:
    """Whether every constraint is at most 0; None where there are none."""
    found = constraints_of(trial, names)
    return all(value <= 0 for value in found.values()) if found else None


def known_infeasible(trial: FrozenTrial, names: Sequence[str] = ()) -> bool:
    """Whether a trial that has not ended violates a constraint already."""
    known = [name for name in names if name in trial.user_attrs]
    return feasible(trial, known) is False


def may_win(trial: FrozenTrial, names: Sequence[str] = ()) -> bool:
    """Whether the trial may be the best, or on the Pareto front."""
    return (
        trial.state == TrialState.COMPLETE
        and trial.values is not None
        and all(map(math.isfinite, trial.values))
        and feasible(trial, names) is not False
    )


def rank(value: float | None, maximize: bool) -> float:
    """A number that is the lower the better the value is; NaN ranks last."""
    if value is None or math.isnan(value):
        return math.inf
    return -value if maximize else value
