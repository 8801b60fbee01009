"""Handing an objective over: what a study stores in its place, and what it is compared by."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import hypermodels
import keras_tuner
import plain_objectives
import pytest
from optuna import Trial

from orchestrator.errors import ObjectiveError
from orchestrator.objective import KerasObjective, Objective
from orchestrator.training.builtin.quadratic import Quadratic
from orchestrator.training.handover import Handover, hand_over, is_by_value


class Callable_:
    def __call__(self, trial: Trial) -> float:
        return 1.0


named = Callable_()


def build_model(hp: Any) -> None: ...


def closing(value: float) -> Callable[[Trial], float]:
    return lambda trial: value


def reference(target: object) -> str:
    """What is stored, without the name of this module."""
    return hand_over(target).reference.replace(__name__, "here")


def test_an_importable_objective_is_stored_by_name() -> None:
    assert reference(plain_objectives.fits_in_steps) == "plain_objectives:fits_in_steps"
    assert reference(named) == "here:named"
    assert reference(Callable_) == "here:Callable_"
    assert reference(KerasObjective(build_model)) == "kt:here:build_model"
    assert reference(json.dumps) == "json:dumps"
    assert reference(Quadratic).endswith(".quadratic:Quadratic")
    for each in ("here:named", "kt:here:build_model", "json:dumps"):
        assert not is_by_value(each)


def test_an_objective_that_cannot_be_imported_is_pickled_by_value() -> None:
    found = [
        reference(closing(1.0)),
        reference(Callable_()),
        reference(functools.partial(build_model, hp=1)),
        reference(named.__call__),
        reference(KerasObjective(lambda hp: None)),
        "__main__:objective",
        "kt:__main__:build_model",
    ]
    assert all(map(is_by_value, found)), found
    assert found[:3] == ["here:closing.<locals>.<lambda>", "here:Callable_()", "here:build_model()"]
    assert hand_over(closing(1.0)).name == "lambda"


def test_the_digest_follows_the_source_or_without_one_the_code() -> None:
    assert hand_over(closing(1.0)).digest == hand_over(closing(2.0)).digest

    def typed(text: str) -> Handover:
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(text, space)
        return hand_over(space["f"])

    one = typed("def f(trial):\n    return 1.0 if trial in {1, 2} else 2.0")
    same = typed("\n\ndef f(trial):\n    return 1.0 if trial in {1, 2} else 2.0")
    other = typed("def f(trial):\n    return 1.0 if trial in {1, 3} else 2.0")
    assert one.digest == same.digest != other.digest and one.digest
    assert typed("class f:\n    def __call__(self, trial): return 1").digest != (
        typed("class f:\n    def __call__(self, trial): return 2").digest
    )


class Net(keras_tuner.HyperModel):  # type: ignore[misc]
    def build(self, hp: Any) -> None: ...


def test_keras_objective_wraps_a_keras_tuner_hypermodel() -> None:
    for built in (build_model, Net, Net(), hypermodels.WithFit):
        wrapped = KerasObjective(built)
        assert isinstance(wrapped, KerasObjective) and isinstance(wrapped, Objective)
        assert hand_over(wrapped).reference.startswith("kt:")
    assert reference(Net) == "kt:here:Net" and reference(Net()) == "kt:here:Net()"
    assert isinstance(hand_over(Net()).target, KerasObjective)


@pytest.mark.parametrize("wrong", [3, {"x": 1}, ["f"]])
def test_a_value_that_is_not_an_objective_is_refused(wrong: object) -> None:
    with pytest.raises(ObjectiveError, match="is not a valid objective; give a name"):
        hand_over(wrong)
