"""What a trial has of a conditional space: its own functions, classes and hypermodels alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import optuna
import pytest
from hooked import Hooked
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState
from worker.workplace import SetFunction, Workplace

from orchestrator.errors import UsageError
from orchestrator.resolve.queue import enqueue
from orchestrator.storage.studies import read_trials
from orchestrator.training.keras_tuner import hyperparameters_of
from orchestrator.winner.replay import replay

SPACE: dict[str, Any] = {
    "momentum": {"float": [0.0, 0.9], "when": {"optimizer": ["sgd", "rmsprop"]}},
    "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
    "damping": {"int": [1, 5], "when": {"nesterov": True}},
    "optimizer": {"choice": ["sgd", "rmsprop", "adam"]},
}


def expected(params: Mapping[str, Any]) -> set[str]:
    """The parameters that a trial of these values has, beside x."""
    optimizer = params["optimizer"]
    names = {"optimizer"} | ({"momentum"} if optimizer != "adam" else set())
    names |= {"nesterov"} if optimizer == "sgd" else set()
    return names | ({"damping"} if params.get("nesterov") else set())


def asks_for_all(trial: optuna.Trial) -> float:
    """A function that knows nothing of the conditions, and asks for children first."""
    damping = trial.suggest_int("damping", 1, 9)
    given = {
        "momentum": trial.suggest_float("momentum", 0, 1),
        "nesterov": trial.suggest_categorical("nesterov", [True, False]),
        "damping": damping,
        "optimizer": trial.suggest_categorical("optimizer", ["sgd", "rmsprop", "adam"]),
    }
    assert {name for name, value in given.items() if value is not None} == expected(trial.params)
    return trial.suggest_float("x", 0, 1)


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "qmc"])
def test_a_parameter_whose_condition_does_not_hold_is_none_and_not_recorded(
    place: Workplace, function: SetFunction, sampler: str, caplog: pytest.LogCaptureFixture
) -> None:
    function(asks_for_all)
    place.create("hooked:plain", trials=25, space=SPACE, sampler={"name": sampler})
    place.worker().run()
    trials = place.trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert trial.params.keys() == expected(trial.params) | {"x"}
    assert len({trial.params["optimizer"] for trial in trials}) == 3
    assert "has not been suggested" not in caplog.text


def test_a_function_with_branches_of_its_own_needs_no_change(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        optimizer = trial.suggest_categorical("optimizer", ["sgd", "rmsprop", "adam"])
        if optimizer != "adam":
            return trial.suggest_float("momentum", 0, 0.9)
        return 1.0

    function(run)
    space = {name: SPACE[name] for name in ("momentum", "optimizer")}
    place.create("hooked:plain", trials=10, space=space)
    place.worker().run()
    assert {trial.state for trial in place.trials()} == {TrialState.COMPLETE}


def test_a_parent_that_the_function_never_asks_for_is_named(
    place: Workplace, function: SetFunction, caplog: pytest.LogCaptureFixture
) -> None:
    """Though it was drawn, because the condition is about it."""
    function(lambda trial: trial.suggest_float("momentum", 0, 0.9) or 0.5)
    space = {
        "optimizr": {"choice": ["sgd", "adam"]},
        "momentum": {"float": [0.0, 0.9], "when": {"optimizr": "sgd"}},
    }
    place.create("hooked:plain", space=space)
    place.worker().run()
    assert "space.optimizr has not been suggested so far" in caplog.text


def test_a_hypermodel_gets_none_as_in_a_conditional_scope(
    place: Workplace, function: SetFunction
) -> None:
    def build(trial: optuna.Trial) -> float:
        hp = hyperparameters_of(trial)
        names = {
            "momentum": hp.Float("momentum", 0, 0.9),
            "damping": hp.Int("damping", 1, 5),
            "nesterov": hp.Boolean("nesterov"),
            "optimizer": hp.Choice("optimizer", ["sgd", "rmsprop", "adam"]),
        }
        assert {name for name, value in names.items() if value is not None} == set(trial.params)
        assert trial.params.keys() == expected(trial.params)
        return 0.5

    function(build)
    place.create("hooked:plain", trials=10, space=SPACE)
    place.worker().run()
    assert {trial.state for trial in place.trials()} == {TrialState.COMPLETE}


class Catalogued(Hooked):
    """Steps with a parameter that is searched only where the spec names it."""

    default_metric: ClassVar[str] = "value"

    def catalogue(self) -> dict[str, BaseDistribution]:
        return {"y": FloatDistribution(0, 1), "z": FloatDistribution(0, 1)}


def test_a_class_is_given_what_exists_and_each_after_its_parents(place: Workplace) -> None:
    space = {
        "z": {"float": [0, 1], "when": {"y": [2]}},
        "y": {"choice": [1.0, 2.0], "when": {"x": 0.5}},
        "x": {"choice": [0.25, 0.5]},
    }
    place.create("worker.test_conditions:Catalogued", trials=12, space=space)
    place.worker().run()
    kinds = {tuple(trial.params) for trial in place.trials()}
    assert kinds == {("x",), ("x", "y"), ("x", "y", "z")}


def test_a_replay_takes_the_record_of_a_conditional_space(
    place: Workplace, function: SetFunction
) -> None:
    function(asks_for_all)
    place.create("hooked:plain", trials=6, space=SPACE)
    place.worker().run()
    for number in range(6):
        found = replay(place.study, read_trials(place.database, place.study), number)
        assert found.verdict() == "identical: the returned value"


def test_a_retry_keeps_its_configuration(place: Workplace, function: SetFunction) -> None:
    def run(trial: optuna.Trial) -> float:
        value = asks_for_all(trial)
        if "orch:retry_of" not in trial.user_attrs:
            raise ArithmeticError(trial.number)
        return value

    function(run)
    place.create(
        "hooked:plain", trials=1, space=SPACE, worker={"max_retries": 2, "max_failures": 50}
    )
    place.worker().run()
    first, *_, last = place.trials()
    assert first.params == last.params and last.state == TrialState.COMPLETE


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"momentum": 0.5, "optimizer": "adam"},
         "momentum does not exist where optimizer is adam; it needs optimizer = sgd or rmsprop"),
        ({"damping": 2, "optimizer": "rmsprop"}, "damping does not exist where optimizer is rmsprop"),
        ({"damping": 2, "nesterov": False}, "damping does not exist where nesterov is false"),
    ],
)  # fmt: skip
def test_enqueueing_a_parameter_that_cannot_exist_is_refused(
    place: Workplace, function: SetFunction, given: dict[str, Any], reason: str
) -> None:
    function(asks_for_all)
    place.create("hooked:plain", trials=2, space=SPACE)
    with pytest.raises(UsageError, match=reason):
        enqueue(place.database, place.study, [{"optimizer": "sgd"}, given])
    assert place.trials() == []
    # Of another study, what does not fit is left out; and a parent may be drawn.
    enqueue(place.database, place.study, [{"damping": 2}], [given])
    place.worker().run()
    drawn, taken = (trial.params for trial in place.trials())
    assert drawn.get("damping", 2) == 2
    assert taken.keys() == expected(taken) | {"x"}
