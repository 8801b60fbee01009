"""The sampler of one trial after another."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.search.random_sampler import RandomSampler
from orchestrator.search.samplers import TrialSampler, build_sampler
from orchestrator.spec.model import StudySpec

SEEDS = (11, 12, 13, 11)


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2"])
def test_a_draw_is_that_of_a_sampler_made_for_its_trial_alone(name: str) -> None:
    spec = StudySpec.parse(
        {
            "study": {"name": "s", "objective": "quadratic", "trials": 9},
            "sampler": {"name": name},
        }
    )
    one = TrialSampler(spec)
    study = optuna.create_study()
    study.optimize(_objective, n_trials=12)
    for seed in SEEDS:
        again = optuna.create_study(sampler=one.seeded(seed))
        alone = optuna.create_study(sampler=build_sampler(spec, seed))
        for each in (again, alone):
            each.add_trials(study.trials)
            each.optimize(_objective, n_trials=1)
        study.add_trial(alone.trials[-1])
        assert again.trials[-1].params == alone.trials[-1].params


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_with_constraints_a_draw_is_that_of_plain_optuna(name: str) -> None:
    spec = StudySpec.parse(
        {
            "study": {"name": "s", "objective": "quadratic", "trials": 9, "constraints": ["n"]},
            "sampler": {"name": name, **({"population_size": 4} if name == "nsga2" else {})},
        }
    )
    made = {"tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}[name]
    options = {"constant_liar": True} if name == "tpe" else {"population_size": 4}
    ended = optuna.create_study()
    ended.optimize(_constrained, n_trials=20)
    drawn = []
    for sampler in (build_sampler(spec, 5), made(seed=5, **options)):
        study = optuna.create_study(sampler=sampler)
        study.add_trials(ended.trials)
        study.optimize(_constrained, n_trials=1)
        drawn.append(study.trials[-1].params)
    assert drawn[0] == drawn[1]


def _constrained(trial: Any) -> float:
    value = _objective(trial)
    trial.set_constraint("n", trial.params["n"] - 50)
    return value


def test_random_draws_are_those_of_optunas_own_sampler() -> None:
    ours, theirs = RandomSampler(seed=5), optuna.samplers.RandomSampler(seed=5)
    study = optuna.create_study()
    trial = optuna.trial.create_trial(value=0.0)
    domains = [
        FloatDistribution(0.0, 1.0),
        FloatDistribution(0.1, 0.7),
        FloatDistribution(0.5, 0.5),
        FloatDistribution(1e-5, 1.0, log=True),
        FloatDistribution(0.0, 1.0, step=0.25),
        IntDistribution(1, 100, log=True),
        IntDistribution(0, 8, step=2),
        IntDistribution(3, 3),
        CategoricalDistribution([1, "a"]),
        CategoricalDistribution([True, "a"]),  # equal to the one before
    ]
    for domain in domains * 20:  # one name for all: a domain may change from trial to trial
        drawn = [each.sample_independent(study, trial, "x", domain) for each in (ours, theirs)]
        assert repr(drawn[0]) == repr(drawn[1])


def _objective(trial: Any) -> float:
    return float(trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 0, 100))
