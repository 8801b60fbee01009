"""Objectives whose process ends, forks, reads its input, or keeps Python to itself."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import psycopg2

import orchestrator as orch

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


def ends_children_at_once(trial: optuna.Trial) -> float:
    """As a pool does that has nothing left to do: some children have hardly started."""
    x = trial.suggest_float("x", 0, 1)
    for _ in range(50):
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
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
            orch.log(trial, {"loss": x - step}, step)
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
    # The fastest of three: the processor may be shared.
    per_second = 10**7 / min(_seconds_in_c(10**7) for _ in range(3))
    count = int(per_second * float(os.environ["BUSY_SECONDS"]))
    trial.set_user_attr("seconds in C", _seconds_in_c(count))
    return x


def _seconds_in_c(count: int) -> float:
    started = time.monotonic()
    sum(range(count))
    return time.monotonic() - started


def is_stopped(trial: optuna.Trial) -> float:
    """Where x is 0.1, the first attempt waits in the middle: it is stopped there and goes on."""
    x = trial.suggest_float("x", 0, 1)
    stopped = Path(os.environ["STOPPED"])
    if x != 0.1 or stopped.exists():
        return x
    trial.report(x, 1)
    stopped.write_text(str(os.getpid()))
    while "go on" not in stopped.read_text():
        time.sleep(0.05)
    trial.set_user_attr("late", 1)
    trial.report(x, 2)
    return x


def _report_half(trial: optuna.Trial) -> None:
    orch.log(trial, {"loss": 0.25}, 5)
    trial.report(0.5, 5)


def reports_from_a_spawned_child(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    child = multiprocessing.get_context("spawn").Process(target=_report_half, args=(trial,))
    child.start()
    child.join()
    assert child.exitcode == 0
    return x


def forks_and_returns(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    child = os.fork()
    if not child:
        return 5.0
    os.waitpid(child, 0)
    return x


def _fail_in_sqlite() -> None:
    import sqlalchemy

    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        connection.execute(sqlalchemy.text("select * from no_such_table"))


def _fail_in_an_inner_study() -> None:
    inner = optuna.create_study()
    trial = inner.ask()
    inner.tell(trial, 1.0)
    trial.set_user_attr("late", 1)


def _fail_with_a_nul() -> None:
    raise ValueError("before\0after")


fails_in_sqlite = ends(_fail_in_sqlite)
fails_in_psycopg2 = ends(lambda: psycopg2.connect("host=/nowhere user=nobody"))
fails_in_an_inner_study = ends(_fail_in_an_inner_study)
fails_with_a_nul = ends(_fail_with_a_nul)


def reports_a_time_stamp(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 1_732_600_000_000 if x == 0.1 else 1)
    return x


def draws_a_long_name(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.set_user_attr("n" * (600 if x == 0.1 else 512), 1)
    return x


_earlier: list[optuna.Trial] = []


def reports_to_a_trial_that_has_ended(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    _earlier.append(trial)
    if x == 0.1:
        _earlier[0].report(1.0, 7)
    return x


def copies_its_trial(trial: optuna.Trial) -> float:
    copy.deepcopy(trial).report(0.25, 1)
    trial.set_user_attr("scores", np.array([0.5, 0.75]))
    trial.set_user_attr("best", np.int64(3))
    return trial.suggest_float("x", 0, 1)
