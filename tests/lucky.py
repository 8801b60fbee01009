"""An objective whose best trial of the search was lucky: with fresh seeds another one is better."""

from __future__ import annotations

import optuna

_SEARCHED = {"lucky": 0.95, "good": 0.90, "poor": 0.70}
_TRUE = {"lucky": 0.80, "good": 0.90, "poor": 0.70}


def value(trial: optuna.Trial) -> float:
    kind = trial.suggest_categorical("kind", ["lucky", "good", "poor"])
    confirms = trial.study.study_name.endswith("-confirm")
    return (_TRUE if confirms else _SEARCHED)[kind] + 0.001 * (trial.number % 4)
