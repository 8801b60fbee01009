"""The first configurations of a search are spread evenly, whoever draws them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from scipy.stats import qmc

from orchestrator.samplers import MixedGP
from orchestrator.search.auto import choose
from orchestrator.search.initial_design import InitialDesign
from orchestrator.search.samplers import build_sampler
from orchestrator.search.sobol import sobol_point
from orchestrator.spec.model import StudySpec

SPEC = StudySpec.parse({"study": {"name": "s", "objective": "quadratic"}, "training": {"seed": 3}})


def _study(sampler: BaseSampler | None = None, pruner: str = "none") -> optuna.Study:
    pruners = {"none": optuna.pruners.NopPruner, "hyperband": optuna.pruners.HyperbandPruner}
    return optuna.create_study(
        study_name="s", sampler=sampler or InitialDesign(seed=3), pruner=pruners[pruner]()
    )


def _mixed(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    units = trial.suggest_categorical("units", [16, 32, 64, 128])
    optimizer = trial.suggest_categorical("optimizer", ["adam", "sgd"])
    momentum = trial.suggest_float("momentum", 0, 1) if optimizer == "sgd" else 0.0
    return x + rate + units + momentum


@pytest.mark.parametrize("count", [8, 10, 16, 64])
def test_points_are_spread_as_evenly_as_those_of_scipy(count: int) -> None:
    def unevenness(points: Any) -> float:
        return float(qmc.discrepancy(points, method="CD"))

    ours, theirs, at_random = [], [], []
    for seed in range(20):
        ours.append(np.array([sobol_point(seed, number, range(6)) for number in range(count)]))
        rng = np.random.default_rng(seed)
        theirs.append(qmc.Sobol(6, seed=rng).random_base2(6)[:count])
        at_random.append(rng.random((count, 6)))
    ours_mean, theirs_mean, random_mean = (
        np.mean([unevenness(each) for each in points]) for points in (ours, theirs, at_random)
    )
    assert ours_mean < 1.15 * theirs_mean and ours_mean < 0.7 * random_mean


@pytest.mark.parametrize("column", [0, 1, 2, 7, 40])
def test_of_every_2_to_the_n_points_one_lies_in_each_part_of_a_coordinate(column: int) -> None:
    for count in (4, 16, 64):
        codes = [sobol_point(1, number, [column])[0] for number in range(count)]
        assert sorted(int(each * count) for each in codes) == list(range(count))


def test_a_coordinate_does_not_depend_on_the_others() -> None:
    whole = sobol_point(5, 9, range(12))
    assert sobol_point(5, 9, [11, 3]).tolist() == [whole[11], whole[3]]
    assert len(set(whole.tolist())) == 12


def test_workers_share_one_sequence_whatever_has_finished() -> None:
    one, many = _study(), _study()
    one.optimize(_mixed, n_trials=10)
    asked = [many.ask() for _ in range(10)]  # nothing is known of the space yet
    for trial in asked:
        _mixed(trial)
    assert [each.params["x"] for each in many.trials] == [each.params["x"] for each in one.trials]
    assert sorted(int(each.params["x"] * 8) for each in one.trials[:8]) == list(range(8))
    assert Counter(each.params["units"] for each in one.trials[:8]) == dict.fromkeys(
        [16, 32, 64, 128], 2
    )


def test_auto_begins_with_the_points_of_mixed_gp() -> None:
    auto, model = _study(), _study(MixedGP(seed=SPEC.training.seed))
    for _ in range(10):
        number = len(auto.trials)
        auto.sampler = build_sampler(SPEC, 77, chosen=choose(SPEC, number, auto.trials).sampler)
        assert isinstance(auto.sampler, InitialDesign) and not isinstance(auto.sampler, MixedGP)
        for study in (auto, model):
            trial = study.ask()
            study.tell(trial, _mixed(trial))
    assert [each.params for each in auto.trials] == [each.params for each in model.trials]


def test_a_parameter_that_only_some_trials_have_is_drawn_where_it_exists() -> None:
    study = _study()
    study.optimize(_mixed, n_trials=30)
    for each in study.trials:
        assert ("momentum" in each.params) == (each.params["optimizer"] == "sgd")
    momenta = [each.params["momentum"] for each in study.trials if "momentum" in each.params]
    assert len(set(momenta)) == len(momenta) > 8


def test_a_parameter_that_comes_later_changes_no_coordinate_of_the_others() -> None:
    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 100)
        return value + (trial.suggest_float("late", 0, 1) if trial.number >= 5 else 0.0)

    study, before = _study(), _study()
    study.optimize(objective, n_trials=10)
    before.optimize(
        lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 100), n_trials=10
    )
    assert [each.params["x"] for each in study.trials] == [
        each.params["x"] for each in before.trials
    ]
    late = [each.params["late"] for each in study.trials if "late" in each.params]
    assert len(set(late)) == 5 and all(0 <= each <= 1 for each in late)


def test_what_was_queued_stays_and_the_rest_is_the_trials_point() -> None:
    study, plain = _study(), _study()
    for each in (study, plain):
        each.optimize(_mixed, n_trials=3)
    study.enqueue_trial({"x": 0.25, "optimizer": "sgd"})
    study.optimize(_mixed, n_trials=1)
    plain.optimize(_mixed, n_trials=1)
    queued, drawn = study.trials[3].params, plain.trials[3].params
    assert (queued["x"], queued["optimizer"]) == (0.25, "sgd")
    assert (queued["rate"], queued["units"]) == (drawn["rate"], drawn["units"])
    study.enqueue_trial({"x": 0.5, "rate": 1e-3, "units": 16, "optimizer": "adam"})
    study.optimize(_mixed, n_trials=1)
    assert study.trials[4].params == {"x": 0.5, "rate": 1e-3, "units": 16, "optimizer": "adam"}


def test_all_brackets_of_hyperband_share_the_sequence() -> None:
    def objective(trial: optuna.Trial) -> float:
        value = _mixed(trial)
        for step in range(1, 10):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    pruned, whole = _study(pruner="hyperband"), _study()
    pruned.optimize(objective, n_trials=16)
    whole.optimize(_mixed, n_trials=16)
    assert any(each.state == optuna.trial.TrialState.PRUNED for each in pruned.trials)
    assert [each.params for each in pruned.trials] == [each.params for each in whole.trials]


def test_a_finite_space_is_tried_without_a_repeat() -> None:
    study, asked = _study(), list[str]()
    for _ in range(12):
        trial = study.ask()
        trial.suggest_int("a", 0, 2)
        trial.suggest_categorical("b", [False, True, None, "x"])
        asked.append(str(trial.params))
    assert len(set(asked)) == 12


def test_it_needs_no_scipy() -> None:
    code = """
import sys, optuna
from orchestrator.search.initial_design import InitialDesign
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=InitialDesign(seed=0))
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=12)
assert "scipy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_seed_is_not_negative() -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more, not -1"):
        InitialDesign(seed=-1)
