"""The pure-Python objective: its values, its steps, its failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pydantic
import pytest

from orchestrator.training.base import Settings
from orchestrator.training.builtin.quadratic import Quadratic


class Notebook:
    """A trial that writes down what it is told."""

    number = 0
    seed = 0

    def __init__(
        self, x: float, y: float, prune_at: int | None = None, done: int | None = None
    ) -> None:
        self.params = {"x": x, "y": y}
        self.reports: dict[int, float] = {}
        self._prune_at = prune_at
        self._done = done

    def report(self, value: float, step: int) -> None:
        self.reports[step] = value

    def log(self, metrics: Any, step: int) -> None:
        pass

    def should_prune(self) -> bool:
        return self._prune_at in self.reports

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        return None if self._done is None else (self._done, {})

    def checkpoint(self, step: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        pass

    def offer_model(self, value: float, save: Callable[[Path], object]) -> None:
        raise AssertionError("it has no model")

    def set_user_attr(self, key: str, value: Any) -> None:
        raise AssertionError("not used")


def quadratic(**options: Any) -> Quadratic:
    return Quadratic(Settings(options=options))


def test_the_minimum_is_zero_at_2_and_minus_3() -> None:
    assert quadratic()(Notebook(2, -3)) == 0
    assert quadratic()(Notebook(3, -1)) == 5


def test_the_values_shrink_to_the_result_at_the_last_step() -> None:
    trial = Notebook(4, 0)
    objective = quadratic(steps=4)
    assert objective(trial) == trial.reports[4] == 13
    assert list(trial.reports) == [1, 2, 3, 4] and objective.steps() == 4
    assert sorted(trial.reports.values(), reverse=True) == list(trial.reports.values())


def test_the_pruner_ends_a_quadratic_trial_only_before_its_last_step() -> None:
    early, late = Notebook(4, 0, prune_at=2), Notebook(4, 0, prune_at=5)
    with pytest.raises(optuna.TrialPruned):
        quadratic()(early)
    assert list(early.reports) == [1, 2]
    assert quadratic()(late) == 13


def test_a_retry_resumes_after_the_checkpoint() -> None:
    trial = Notebook(4, 0, done=3)
    assert quadratic()(trial) == 13
    assert list(trial.reports) == [4, 5]


def test_the_quadratic_fails_as_often_as_configured() -> None:
    with pytest.raises(RuntimeError, match="failure_rate"):
        quadratic(failure_rate=1)(Notebook(0, 0))
    objective = quadratic(failure_rate=0.5, steps=1)
    outcomes = set()
    for _ in range(200):
        try:
            objective(Notebook(0, 0))
            outcomes.add("done")
        except RuntimeError:
            outcomes.add("failed")
    assert outcomes == {"done", "failed"}, "a retry of the same trial may succeed"


@pytest.mark.parametrize(
    "options", [{"sleep": -1}, {"steps": 0}, {"failure_rate": 1.1}, {"slep": 1}]
)
def test_impossible_and_unknown_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(pydantic.ValidationError):
        quadratic(**options)
