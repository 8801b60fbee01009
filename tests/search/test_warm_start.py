"""A warm start of MixedGP: older trials count as far as they agree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.samplers import MixedGP
from orchestrator.search.encoded_space import EncodedSpace
from orchestrator.search.knowledge import Guide
from orchestrator.search.older_trials import OlderTrials


def _bowl(trial: optuna.Trial, by: float = 0.0) -> float:
    point = [trial.suggest_float(f"x{place}", 0, 1) for place in range(4)]
    return sum((x - 0.3 - 0.1 * place - by) ** 2 for place, x in enumerate(point))


def _study(seed: int = 0, **options: Any) -> optuna.Study:
    return optuna.create_study(sampler=MixedGP(seed=seed, **options))


def _older(sign: float = 1.0, trials: int = 30) -> optuna.Study:
    study = optuna.create_study(
        sampler=MixedGP(seed=99), direction="minimize" if sign > 0 else "maximize"
    )
    study.optimize(lambda trial: sign * _bowl(trial, 0.02), n_trials=trials)
    return study


def _searched(trials: int, seed: int = 0, **options: Any) -> optuna.Study:
    study = _study(seed, **options)
    study.optimize(_bowl, n_trials=trials)
    return study


def test_the_first_trial_is_the_best_of_the_older_study() -> None:
    older = _older()
    first = _searched(1, warm_start=[older]).trials[0].params
    assert first == pytest.approx(older.best_params)


def test_the_prior_comes_first_then_the_best_of_each_older_study() -> None:
    older = [_older(), _older(trials=12)]
    prior = {"x0": 0.9}
    tried = _searched(3, warm_start=older, prior=prior).trials
    assert tried[0].params["x0"] == pytest.approx(0.9)
    for trial, study in zip(tried[1:], older, strict=True):
        assert trial.params == pytest.approx(study.best_params)


def test_a_helpful_study_finds_the_best_earlier_whichever_way_its_values_point() -> None:
    for sign in (1.0, -1.0):
        older = _older(sign)
        warm = [_searched(12, seed, warm_start=[older]).best_value for seed in range(3)]
        cold = [_searched(12, seed).best_value for seed in range(3)]
        assert max(warm) < min(cold) / 2


def test_a_study_with_the_values_reversed_costs_little() -> None:
    older = _older()
    trials = [
        create_trial(params=each.params, distributions=each.distributions, value=-each.values[0])
        for each in older.trials
    ]
    reversed_ = optuna.create_study()
    reversed_.add_trials(trials)
    for seed in range(3):
        assert _searched(30, seed, warm_start=[reversed_]).best_value < 0.002


def test_a_suggestion_follows_from_the_seed_the_number_and_both_studies() -> None:
    older = _older()
    whole = _searched(13, warm_start=[older])
    for number in (0, 1, 4, 12):
        again = _study(warm_start=[OlderTrials.of(older.trials, maximize=False)])
        again.add_trials(whole.trials[:number])
        trial = again.ask()
        _bowl(trial)
        assert trial.params == whole.trials[number].params


def test_parameters_and_values_that_the_new_study_does_not_have_are_left_out() -> None:
    older = optuna.create_study(sampler=MixedGP(seed=1))
    older.optimize(
        lambda trial: trial.suggest_float("x0", 0, 4) + trial.suggest_int("gone", 0, 9),
        n_trials=20,
    )
    study = _study(warm_start=[older])
    study.optimize(_bowl, n_trials=14)
    assert len(study.trials) == 14
    space = EncodedSpace({"x0": FloatDistribution(0, 1), "new": FloatDistribution(0, 1)})
    rows, losses = OlderTrials.of(older.trials, maximize=False).within(space)
    inside = [each for each in older.trials if each.params["x0"] <= 1]
    assert len(rows) == len(losses) == len(inside)
    assert np.isnan(rows[:, 1]).all()


def test_what_is_expected_does_not_depend_on_a_parameter_that_the_older_study_lacks() -> None:
    space = EncodedSpace({f"x{place}": FloatDistribution(0, 1) for place in range(5)})
    guide = Guide(space, OlderTrials.of(_older().trials, maximize=False))
    rows = np.full((3, 5), 0.4)
    rows[:, 4] = [0, 0.5, 1]
    assert np.ptp(guide(rows)) == pytest.approx(0)


def _trial(value: float | None, **options: Any) -> FrozenTrial:
    at = {"params": {"x": 0.5}, "distributions": {"x": FloatDistribution(0, 1)}}
    return create_trial(**{**at, "value": value, **options})


def test_the_copied_trials_are_those_with_a_value_the_best_first() -> None:
    trials = [
        _trial(3.0),
        _trial(1.0, constraints={"memory": 1.0}),
        _trial(2.0),
        _trial(math.inf),
        _trial(None, state=TrialState.FAIL),
        _trial(None, state=TrialState.PRUNED, intermediate_values={1: 9.0}),
    ]
    assert OlderTrials.of(trials, maximize=False).losses == [2, 3, 9, 1]
    assert OlderTrials.of(trials, maximize=True).losses == [-3, -2, -2, -1]


def test_of_a_long_study_the_best_trials_are_copied_and_some_of_the_others() -> None:
    copied = OlderTrials.of([_trial(float(value)) for value in range(400)], maximize=False)
    assert len(copied.losses) == 150
    assert copied.losses[:100] == list(range(100)) and copied.losses[-1] == 399


def test_copied_trials_are_read_as_they_were_written() -> None:
    copied = OlderTrials.of(_older(trials=5).trials, maximize=False)
    assert OlderTrials.read(copied.as_json()) == copied
