"""A prior in MixedGP: tried first, searched near, and left where it is wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.samplers import MixedGP
from orchestrator.search.encoded_space import EncodedSpace
from orchestrator.search.knowledge import Prior

SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "units": CategoricalDistribution([16, 32, 64, 128]),
    "layers": IntDistribution(1, 5),
    "optimizer": CategoricalDistribution(["sgd", "adam", "rmsprop"]),
}
RIGHT = {"rate": 2e-3, "units": 64, "optimizer": "adam"}
WRONG = {"rate": 5e-2, "units": 16, "optimizer": "sgd"}


def _network(trial: optuna.Trial) -> float:
    """The best is 0, at rate = 1e-3, units = 64, layers = 2 and adam."""
    loss = (math.log10(trial.suggest_float("rate", 1e-5, 1e-1, log=True)) + 3) ** 2 / 4
    loss += abs(math.log2(trial.suggest_categorical("units", [16, 32, 64, 128]) / 64)) / 5
    loss += abs(trial.suggest_int("layers", 1, 5) - 2) / 10
    return (
        loss
        + {"adam": 0.0, "sgd": 0.3, "rmsprop": 0.2}[
            trial.suggest_categorical("optimizer", ["sgd", "adam", "rmsprop"])
        ]
    )


def _searched(trials: int, seed: int = 0, **options: Any) -> optuna.Study:
    study = optuna.create_study(sampler=MixedGP(seed=seed, **options))
    study.optimize(_network, n_trials=trials)
    return study


def test_the_first_trial_tries_the_prior_and_draws_what_it_leaves_open() -> None:
    plain = _searched(1).trials[0].params
    first = _searched(1, prior=RIGHT).trials[0].params
    assert first == {**plain, "units": 64, "optimizer": "adam", "rate": pytest.approx(2e-3)}


def test_every_second_startup_trial_is_near_the_prior_and_the_others_are_not_moved() -> None:
    plain = [each.params for each in _searched(10).trials]
    drawn = [each.params for each in _searched(10, prior=RIGHT).trials]
    assert drawn[1::2] == plain[1::2]

    def distances(params: list[dict[str, Any]]) -> list[float]:
        return [abs(math.log10(each["rate"] / RIGHT["rate"])) for each in params]

    moved = list(zip(distances(drawn[2::2]), distances(plain[2::2]), strict=True))
    # One that was near already may go to the other side.
    assert all(after < before for after, before in moved if before > 0.3)
    assert sum(after for after, _ in moved) < sum(before for _, before in moved)


def test_a_right_prior_finds_the_best_earlier() -> None:
    for seed in range(3):
        assert _searched(8, seed, prior=RIGHT).best_value < _searched(8, seed).best_value


def test_a_wrong_prior_is_left() -> None:
    for seed in range(3):
        assert _searched(40, seed, prior=WRONG).best_value < 0.02


def test_a_suggestion_follows_from_the_seed_the_number_and_the_trials() -> None:
    whole = _searched(14, prior=RIGHT)
    for number in (0, 2, 5, 13):
        again = optuna.create_study(sampler=MixedGP(seed=0, prior=RIGHT))
        again.add_trials(whole.trials[:number])
        trial = again.ask()
        _network(trial)
        assert trial.params == whole.trials[number].params


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({"rate": 1.0}, "the prior of rate cannot be 1.0, which is outside of its domain"),
        ({"rate": "fast"}, "the prior of rate cannot be 'fast'"),
        ({"layers": 9}, "the prior of layers cannot be 9, which is outside"),
        ({"units": 256}, "the prior of units cannot be 256"),
        ({"optimizer": "adamw"}, "the prior of optimizer cannot be 'adamw'"),
    ],
)
def test_a_prior_outside_of_the_domain_is_refused(prior: dict[str, Any], words: str) -> None:
    trial = optuna.create_study(sampler=MixedGP(seed=0, prior=prior)).ask()
    with pytest.raises(ValueError, match=words):
        _network(trial)


def test_the_density_falls_with_the_distance_and_ignores_what_a_configuration_lacks() -> None:
    space = EncodedSpace(SPACE)
    prior = Prior(space, RIGHT)
    rows = np.array([space.encode({"layers": 1, **RIGHT}) for _ in range(5)])
    rows[1, 0] += 0.25  # a standard deviation
    rows[2, 3] = 0  # sgd
    rows[3, 1] = rows[3, 0] = np.nan
    rows[4, 2] = space.encode({"layers": 5})[2]  # has no prior
    expected = [0, -0.5, -math.log(4), 0, 0]
    assert prior.log_density(rows) == pytest.approx(expected)


def test_draws_from_the_prior_have_its_shares() -> None:
    space = EncodedSpace(SPACE)
    unit = np.random.default_rng(0).random((4000, len(SPACE)))
    drawn = Prior(space, RIGHT).spread(unit)
    assert np.mean(drawn[:, 3] == 1) == pytest.approx(4 / 6, abs=0.03)
    near = np.abs(drawn[:, 0] - space.encode(RIGHT)[0]) < 0.25
    assert np.mean(near) == pytest.approx(0.70, abs=0.04)  # 0.68, and the tails cut off
    assert ((drawn[:, 0] >= 0) & (drawn[:, 0] <= 1)).all()
    assert np.unique(drawn[:, 1]).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert np.unique(drawn[:, 2]).tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_a_prior_for_a_parameter_of_some_trials_alone() -> None:
    def conditional(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("kind", ["flat", "deep"]) == "deep":
            return abs(trial.suggest_float("depth", 0, 1) - 0.2)
        return 0.5

    study = optuna.create_study(sampler=MixedGP(seed=0, prior={"kind": "deep", "depth": 0.25}))
    study.optimize(conditional, n_trials=16)
    assert study.trials[0].params == {"kind": "deep", "depth": 0.25}
    assert study.best_value < 0.02
