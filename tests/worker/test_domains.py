"""A function's own domains show at its first suggestion: what it cannot take stops the study there."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from worker.workplace import SetFunction, Workplace

from orchestrator.errors import UsageError
from orchestrator.worker.suggestion import Words

SIZES: list[Any] = [[16], [16, 8]]  # Optuna takes them, and warns; its types do not


def suggests(trial: optuna.Trial) -> float:
    trial.suggest_categorical("kind", ["flat", "deep"])
    trial.suggest_categorical("batch", [32, 64])
    trial.suggest_categorical("sizes", SIZES)
    trial.suggest_int("units", 8, 64)
    return trial.suggest_float("rate", 0.1, 1.0)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"units": "abc"}, ['space.units cannot be "abc"', "8 to 64"]),
        ({"units": {"choice": ["a", "b"]}}, ["space.units must be a whole number"]),
        ({"units": {"float": [8.0, 64.0]}}, ["space.units must be a whole number"]),
        ({"rate": 5}, ["space.rate cannot be 5", "0.1 to 1", "choice = [5]"]),
        ({"rate": True}, ["space.rate cannot be true"]),
        ({"kind": "depe"}, ['space.kind cannot be "depe"', "flat, deep"]),
        ({"kind": {"int": [1, 2]}}, ["space.kind must be a string"]),
        ({"batch": 65}, ["space.batch cannot be 65", "32, 64"]),
        ({"sizes": 16}, ["space.sizes cannot be 16", "[16], [16, 8]"]),
        ({"sizes": {"choice": [1, 2]}}, ["space.sizes must be a list"]),
    ],
)
def test_a_domain_that_the_function_cannot_use_stops_the_study_in_its_first_trial(
    place: Workplace, function: SetFunction, space: dict[str, Any], words: list[str]
) -> None:
    steps = []

    def run(trial: optuna.Trial) -> float:
        value = suggests(trial)
        trial.report(value, 1)
        steps.append(trial.number)
        return value

    function(run)
    place.create("hooked:plain", trials=20, space=space, worker={"max_retries": 3})
    with pytest.raises(UsageError) as refused:
        place.worker().run()
    for word in words:
        assert word in str(refused.value)
    assert not steps, "before its first step"
    assert [trial.state.name for trial in place.trials()] == ["WAITING"]


# Backwards: a name that stands in the user's code might be suggested in another trial.
@pytest.mark.parametrize("eman", ["stinuqqz", "tinuqz", "tarqz"])
def test_a_parameter_name_that_the_function_never_uses_stops_the_study(
    place: Workplace, function: SetFunction, eman: str
) -> None:
    def run(trial: optuna.Trial) -> float:
        return trial.suggest_float("zqrate", 0, 1) * trial.suggest_int("zqunits", 1, 9)

    function(run)
    name = eman[::-1]
    place.create("hooked:plain", trials=20, space={name: 16}, worker={"max_retries": 3})
    with pytest.raises(UsageError, match="known are zqrate, zqunits") as refused:
        place.worker().run()
    assert f"unknown parameter space.{name}; did you mean 'zq" in str(refused.value)
    assert [trial.state.name for trial in place.trials()] == ["WAITING"]


@pytest.mark.parametrize(
    "space",
    [
        {"units": {"int": [1, 4096]}},
        {"units": {"choice": [1, 4096]}},
        {"rate": {"int": [1, 3]}},
        {"rate": {"choice": [1, 2.5]}},
        {"kind": {"choice": ["wide", "deep"]}},
        {"batch": {"int": [1, 512]}},
        {"kind": "flat", "batch": 64, "units": 9, "rate": 1},
    ],
)
def test_the_spec_may_widen_a_functions_domain(
    place: Workplace, function: SetFunction, space: dict[str, Any]
) -> None:
    function(suggests)
    place.create("hooked:plain", trials=2, space=space)
    place.worker().run()
    assert [trial.state.name for trial in place.trials()] == ["COMPLETE"] * 2


def test_suggest_float_returns_a_float_for_an_integer_domain(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        drawn = [trial.suggest_float(name, 0.0, 9.0) for name in ("rate", "decay", "one")]
        assert [type(value) for value in drawn] == [float] * 3
        return drawn[0]

    function(run)
    space = {"rate": {"int": [1, 3]}, "decay": {"choice": [1, 2]}, "one": 1}
    place.create("hooked:plain", trials=3, space=space)
    place.worker().run()
    for trial in place.trials():
        assert type(trial.params["rate"]) is int and trial.value == trial.params["rate"]


def test_a_parameter_used_only_by_some_trials_warns_once(
    place: Workplace, function: SetFunction, caplog: pytest.LogCaptureFixture
) -> None:
    def run(trial: optuna.Trial) -> float:
        if trial.number == 3:
            trial.suggest_float("seldom", 0.0, 1.0)
        for layer in range(trial.suggest_int("layers", 1, 1)):
            trial.suggest_int(f"width_{layer}", 1, 9)
        return suggests(trial)

    function(run)
    place.create("hooked:plain", trials=5, space={"seldom": 0.5, "width_7": 3})
    place.worker().run()
    trials = place.trials()
    assert [trial.params.get("seldom") for trial in trials] == [None, None, None, 0.5, None]
    assert caplog.text.count("space.seldom has not been suggested so far") == 1
    assert caplog.text.count("space.width_7 has not been suggested so far") == 1


@pytest.mark.parametrize(
    ("source", "makes", "does_not"),
    [
        ("t.suggest_int('units', 1, 2)", "units", "unit"),
        ("t.suggest_int('units', 1, 2)", "units", "units_of"),
        ("t.suggest_int(f'units_{i}', 1, 2)", "units_12", "unit_12"),
        ("t.suggest_int(f'x{i}', 1, 2)", "x1", "xy"),
        ("t.suggest_int('units_%d' % i, 1, 2)", "units_3", "width_3"),
        ("t.suggest_int('units_{}'.format(i), 1, 2)", "units_3", "width_3"),
        ("name = 'units'; t.suggest_int(name + str(i), 1, 2)", "units3", "unitz3"),
        ("for n in 'lr momentum'.split(): t.suggest_float(n, 0, 1)", "momentum", "momentun"),
        ("with hp.name_scope('head'): hp.Int('units', 1, 2)", "head/units", "head/unit"),
        ("this is no Python", "", "units"),
    ],
)
def test_possible_parameter_names_are_found_in_the_functions_code(
    source: str, makes: str, does_not: str
) -> None:
    words = Words([source])
    assert not makes or words.can_make(makes)
    assert not words.can_make(does_not)
