"""Objectives whose process ends, forks, reads its input, or keeps Python to itself."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable

import optuna

FORK = multiprocessing.get_context("fork")


def ends(how: Callable[[], object]) -> Callable[[optuna.Trial], float]:
    """An objective that ends that way where x is 0.1, and returns x everywhere else."""

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        if x == 0.1:
            how()
        return x

    return objective


def _cancelled() -> None:
    raise asyncio.CancelledError


def _generator_exit() -> None:
    raise GeneratorExit("closed")


exits = ends(lambda: sys.exit(0))
exits_with_words = ends(lambda: sys.exit("these hyperparameters make no sense"))
is_cancelled = ends(_cancelled)
closes_a_generator = ends(_generator_exit)
ends_its_process = ends(lambda: os._exit(0))
ends_its_process_as_if_wrongly_used = ends(lambda: os._exit(2))


def has_a_pool(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    with FORK.Pool(2) as pool:
        return float(sum(pool.map(abs, [x, -1.0])))


def ends_a_child(trial: optuna.Trial) -> float:
    """As a time limit does that a user writes around a training."""
    x = trial.suggest_float("x", 0, 1)
    child = FORK.Process(target=time.sleep, args=(600,))
    child.start()
    child.join(0.1)
    child.terminate()
    child.join()
    assert child.exitcode == -15
    return x


def reads_its_input(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    read = subprocess.run(["cat"], capture_output=True, check=True).stdout
    try:
        input()
    except EOFError:
        return x + len(read)
    raise AssertionError("there was something to read")


def reports_from_a_child(trial: optuna.Trial) -> float:
    """The whole training runs in a child, as libraries that isolate a training do it."""
    x = trial.suggest_float("x", 0, 1)

    def train() -> None:
        for step in range(3):
            trial.report(x + step, step)
        trial.set_user_attr("trained in", "a child")

    child = FORK.Process(target=train)
    child.start()
    child.join()
    assert child.exitcode == 0
    return x


def keeps_python_to_itself(trial: optuna.Trial) -> float:
    """One call into C that lets no other thread run, where x is 0.1."""
    x = trial.suggest_float("x", 0, 1)
    if x != 0.1:
        time.sleep(1)
        return x
    started = time.monotonic()
    sum(range(10**7))
    per_second = 10**7 / (time.monotonic() - started)
    sum(range(int(per_second * float(os.environ["BUSY_SECONDS"]))))
    return x
