"""A function's trial once more: what it returned is compared, whatever it asks of its study."""

from __future__ import annotations

import math

import optuna
import pytest
from worker.workplace import SetFunction, Workplace

from orchestrator.errors import OrchError
from orchestrator.storage.studies import read_trials
from orchestrator.winner.replay import Replay, replay


def replayed(place: Workplace, number: int) -> Replay:
    database, study = place.database, place.study
    return replay(study, read_trials(database, study), number)


def test_replay_compares_the_returned_value_without_reports(
    place: Workplace, function: SetFunction
) -> None:
    returned = [0.25, 0.25, 0.75]
    function(lambda trial: returned.pop(0))
    place.create("hooked:plain")
    place.worker().run()
    same = replayed(place, 0)
    assert same.verdict() == "identical: the returned value"
    assert str(same).splitlines()[1].split() == [
        "returned", "value", "0.25", "0.25", "0",
    ]  # fmt: skip
    other = replayed(place, 0)
    assert other.largest_difference == 0.5
    assert other.verdict(0.5) == "equal within 0.5: the largest difference is 0.5"


def test_replay_compares_each_metric_and_leaves_the_study_unchanged(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> list[float]:
        # As the first of its study, and once more: nothing had ended before it.
        assert not [each for each in trial.study.trials if each.state.is_finished()]
        return [1.0, math.inf]

    function(run)
    metrics = {"metric": ["a", "b"], "direction": ["minimize", "maximize"]}
    place.create("hooked:plain", study=metrics)
    place.worker().run()
    assert replayed(place, 0).verdict() == "identical: the returned values"


def test_replay_handles_a_trial_that_stopped_its_study_or_now_fails(
    place: Workplace, function: SetFunction
) -> None:
    def stops(trial: optuna.Trial) -> float:
        trial.report(math.nan, 1)
        trial.study.stop()
        return 1.0

    function(stops)
    place.create("hooked:plain", trials=5)
    place.worker().run()
    assert replayed(place, 0).verdict() == "identical: 1 of 1 values and the returned value"

    def fails(trial: optuna.Trial) -> float:
        raise ValueError("no\nsuch file")

    function(fails)
    with pytest.raises(OrchError, match="trial 0 fails in its replay: ValueError: no such file"):
        replayed(place, 0)


def test_replay_uses_the_domains_of_the_spec(place: Workplace, function: SetFunction) -> None:
    def run(trial: optuna.Trial) -> float:
        assert isinstance(trial, optuna.Trial)
        assert trial.suggest_categorical("kind", ["flat", "deep"]) == "wide"
        return trial.suggest_float("rate", 0.0, 1.0)

    function(run)
    place.create("hooked:plain", space={"kind": {"choice": ["wide"]}, "rate": {"int": [7, 7]}})
    place.worker().run()
    assert replayed(place, 0).verdict() == "identical: the returned value"


def test_replay_has_nothing_to_compare_for_a_pruned_trial_without_values(
    place: Workplace, function: SetFunction
) -> None:
    def prunes(trial: optuna.Trial) -> float:
        raise optuna.TrialPruned

    function(prunes)
    place.create("hooked:plain")
    place.worker().run()
    with pytest.raises(OrchError, match="has reported no value; there is nothing to compare"):
        replayed(place, 0)
