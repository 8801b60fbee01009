"""An objective whose training a test writes in place, for workers in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from stepped import Stepped

from orchestrator.objective import Trial

AfterStep = Callable[[Any, int], object]
Function = Callable[[Any], object]


class Acts:
    """What a test does in its objectives, until it is reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.after_step: AfterStep = lambda trial, step: None
        self.function: Function = lambda trial: None

    def set_after_step(self, act: AfterStep) -> None:
        """``act`` comes after each step's report of :class:`Hooked`."""
        self.after_step = act

    def set_function(self, act: Function) -> None:
        """``act`` is the plain objective."""
        self.function = act


acts = Acts()


class Hooked(Stepped):
    """Notes the number of each step that it trains in ``trained``."""

    trained: list[tuple[int, int]] = []  # noqa: RUF012 - emptied by the fixture

    def train(self, trial: Trial, step: int) -> None:
        self.trained.append((trial.number, step))

    def reported(self, trial: Trial, step: int) -> None:
        acts.after_step(trial, step)


class Conditional(Hooked):
    """``z`` exists beside an ``x`` above 0.9 alone, which none is."""

    def space(self) -> dict[str, BaseDistribution]:
        return {"x": FloatDistribution(0.0, 0.8), "z": FloatDistribution(0.0, 1.0)}

    def is_active(self, name: str, chosen: Mapping[str, Any]) -> bool:
        return name == "x" or chosen["x"] > 0.9


def plain(trial: optuna.Trial) -> Any:
    """Any function of a trial; some return what is refused."""
    return acts.function(trial)
