"""Objectives as a user would write them for plain Optuna."""

from __future__ import annotations

import os
import signal
import time

import optuna


def conditional(trial: optuna.Trial) -> float:
    """A space that depends on what was drawn before."""
    kind = trial.suggest_categorical("kind", ["line", "bowl"])
    x = trial.suggest_float("x", -5, 5)
    if kind == "line":
        return abs(x)
    y = trial.suggest_int("y", -5, 5)
    return x**2 + y**2


def broken(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 1)
    raise ValueError("no such layer")


def not_a_number(trial: optuna.Trial) -> float:
    return float("nan") * trial.suggest_float("x", 0, 1)


def not_a_value(trial: optuna.Trial) -> object:
    trial.suggest_float("x", 0, 1)
    return "forty-two"


def crashes_once(trial: optuna.Trial) -> float:
    """Its process is killed in the first attempt, as by the kernel out of memory."""
    x = trial.suggest_float("x", 0, 1)
    if "orch:attempt" not in trial.user_attrs and trial.number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def slow(trial: optuna.Trial) -> float:
    """Reports every tenth of a second for a minute."""
    x = trial.suggest_float("x", 0, 1)
    for step in range(600):
        time.sleep(0.1)
        trial.report(x, step)
    return x


not_callable = 3
