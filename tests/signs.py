"""Objectives whose names are written in many scripts."""

from __future__ import annotations

import optuna


def value(trial: optuna.Trial) -> float:
    x = trial.suggest_float("учёба", 1, 2)
    kind = trial.suggest_categorical("sélection", ["да", "é", "日本", "…"])
    for step in range(3):
        trial.report(x + step, step)
    print("печать")
    return x + (kind == "é")


def two(trial: optuna.Trial) -> tuple[float, float]:
    x = trial.suggest_float("x", 1, 2)
    return x, x**2
