"""Objectives as a user would write them for plain Optuna."""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import optuna
from stepped import Stepped, SteppedOptions

import orchestrator as orch
from orchestrator.training.base import Trial
from orchestrator.training.builtin.digits import Digits
from orchestrator.worker.trial import Trial as WorkerTrial


def conditional(trial: optuna.Trial) -> float:
    """A space that depends on what was drawn before."""
    kind = trial.suggest_categorical("kind", ["line", "bowl"])
    x = trial.suggest_float("x", -5, 5)
    if kind == "line":
        return abs(x)
    y = trial.suggest_int("y", -5, 5)
    return x**2 + y**2


def lingers(trial: optuna.Trial) -> float:
    """Its process does not end by itself when its work is done."""
    atexit.register(time.sleep, 600)
    return trial.suggest_float("x", 0, 1)


def broken(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 1)
    raise ValueError("no such layer")


def names_its_storage(trial: optuna.Trial) -> float:
    """Fails with what an objective can read in its environment."""
    trial.suggest_float("x", 0, 1)
    raise ValueError(f"no way to {os.environ['ORCH_STORAGE']}")


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


def fails_at_two(trial: optuna.Trial) -> float:
    x = trial.suggest_int("x", 1, 3)
    if x == 2:
        raise ValueError("two is not allowed")
    return x


def seven_params(trial: optuna.Trial) -> float:
    """Seven parameters, eight reports, no work."""
    total: float = sum(trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(7))
    for step in range(1, 9):
        trial.report(total / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return total


def logs(trial: optuna.Trial) -> float:
    """Three steps, whose loss falls while the value rises; the learning rate halves."""
    x = trial.suggest_float("x", 0.0, 1.0)
    for step in (1, 2, 3):
        orch.log(trial, {"loss": x / step, "learning_rate": 2.0**-step}, step)
        trial.report(x * step, step)
    return 3 * x


def reports_nan(trial: optuna.Trial) -> float:
    """Never a number; goes on until it is pruned."""
    for step in range(1, 10):
        trial.report(float("nan"), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return 0.0


def two_metrics(trial: optuna.Trial) -> tuple[float, float]:
    """The smaller the error, the bigger the model."""
    x = trial.suggest_float("x", 0.0, 1.0)
    return (1 - x) ** 2, x


def constrained(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0.0, 1.0)
    trial.set_user_attr("too_big", x - 0.7)
    return -x


def right_half(trial: optuna.Trial) -> float:
    """As for plain Optuna 5: feasible only where x is at least 1, and the free optimum is -3."""
    x = trial.suggest_float("x", -5, 5)
    trial.set_constraint("right_half", 1.0 - x)
    return (x + 3) ** 2


def flat(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0.0, 1.0)
    return 1.0


not_callable = 3


class DiesInFold(Digits):  # type: ignore[misc]  # loaded by its path
    """Its process is killed in the second fold of the first attempt, after its second epoch."""

    checkpoints_seen = 0

    def __call__(self, trial: Trial) -> list[float]:
        save = trial.checkpoint

        def checkpoint(step: int, capture: Callable[[], Any] | None) -> None:
            save(step, capture)
            self.checkpoints_seen += 1
            first = isinstance(trial, WorkerTrial) and "orch:attempt" not in trial.user_attrs
            if self.checkpoints_seen == 7 and first:
                time.sleep(1)  # the checkpoint is written beside the training
                os.kill(os.getpid(), signal.SIGKILL)

        trial.checkpoint = checkpoint  # type: ignore[method-assign]
        values: list[float] = super().__call__(trial)
        return values


class StepsOptions(SteppedOptions):
    steps: int = 10
    sleep: float = 0.1
    megabytes: float = 0.0
    fault: str = ""


class Steps(Stepped):
    """Writes down every step that it trains, in ``$STEPS_LOG``, and goes on from checkpoints."""

    Options = StepsOptions
    options: StepsOptions

    def state_size(self) -> int:
        return 1 + int(self.options.megabytes * 131072)

    def train(self, trial: Trial, step: int) -> None:
        time.sleep(self.options.sleep)
        with open(os.environ["STEPS_LOG"], "a") as log:
            log.write(f"{trial.params['x']!r} {step} {os.getpid()}\n")
        if step == 2:
            self._fault(trial)

    def reported(self, trial: Trial, step: int) -> None:
        if step < self.options.steps and trial.should_prune():
            raise optuna.TrialPruned

    def _fault(self, trial: Trial) -> None:
        if self.options.fault == "hang" and trial.number == 0:
            time.sleep(600)
        if self.options.fault == "segfault" and trial.number == 0:
            faulthandler._sigsegv()  # type: ignore[attr-defined]
        if self.options.fault == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
