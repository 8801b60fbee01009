"""Which parameter mattered most: what is claimed, and what is not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from report.studies import Made, store

from orchestrator.report import ped_anova
from orchestrator.report.importance import Importances, assess
from orchestrator.report.reader import summarise
from orchestrator.report.render import render
from orchestrator.storage.database import Database

Objective = Callable[[optuna.Trial], float]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(level)


def searched(objective: Objective, count: int, sampler: BaseSampler) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, count)
    return study


def assessed(study: optuna.Study, thorough: bool = False) -> Importances:
    trials = study.get_trials(deepcopy=False)
    return assess(trials, False, 0, thorough)


def bowl(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2 + trial.suggest_float("y", -5, 5) ** 2


def valley(trial: optuna.Trial) -> float:
    """x decides nearly everything."""
    x, y, z = (trial.suggest_float(name, -5, 5) for name in "xyz")
    return x**2 + 0.01 * y**2 + 0.01 * z


@pytest.mark.parametrize("sampler", [TPESampler(seed=1), RandomSampler(seed=1)])
def test_on_a_symmetric_bowl_no_parameter_is_called_most_important(sampler: BaseSampler) -> None:
    found = assessed(searched(bowl, 515, sampler))
    assert found.claim.parameter is None and found.claim.trials == 515
    low, high = found.claim.intervals["x"]
    assert low < 0.5 < high
    assert found.claim.reason and "intervals" in found.claim.reason


@pytest.mark.parametrize("count", [2, 5, 12, 19])
def test_importance_needs_at_least_twenty_trials(count: int) -> None:
    found = assessed(searched(valley, count, RandomSampler(seed=count)), thorough=True)
    assert found.claim.parameter is None and found.shares == {} == found.fanova
    assert found.claim.reason == (
        f"{count} complete trials cannot say which parameter mattered; 20 may"
    )


def test_many_parameters_need_more_trials() -> None:
    def eight(trial: optuna.Trial) -> float:
        return sum(trial.suggest_float(f"x{place}", 0, 1) for place in range(8))

    found = assessed(searched(eight, 31, RandomSampler(seed=0)))
    assert found.claim.reason and found.claim.reason.endswith("; 32 may")


def test_a_parameter_that_dominates_is_named_with_its_interval() -> None:
    found = assessed(searched(valley, 60, RandomSampler(seed=1)))
    low, high = found.claim.intervals["x"]
    assert found.claim.parameter == "x" and found.claim.reason is None
    assert low <= found.shares["x"] <= high
    assert low > max(found.claim.intervals[name][1] for name in "yz")
    assert found.fanova is not None and next(iter(found.fanova)) == "x"


def test_disagreeing_methods_claim_nothing() -> None:
    def split(trial: optuna.Trial) -> float:
        # The good trials are those of a small y; most of the variance is of x, among the bad.
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return 0.1 * x if y <= 0.1 else 1 + 20 * x

    found = assessed(searched(split, 600, RandomSampler(seed=0)))
    assert next(iter(found.shares)) == "y" and found.fanova and next(iter(found.fanova)) == "x"
    assert found.claim.parameter is None
    assert found.claim.reason == "PED-ANOVA and fANOVA disagree on which parameter mattered most"


def grid_of(
    function: Callable[[Any, Any], float],
    repeats: int = 1,
    gamma: Iterable[Any] = (1, 2, 3),
    c: Iterable[Any] = "abcd",
) -> optuna.Study:
    space = {"gamma": list(gamma), "C": list(c)}

    def objective(trial: optuna.Trial) -> float:
        first = trial.suggest_categorical("gamma", space["gamma"])
        return function(first, trial.suggest_categorical("C", space["C"]))

    study = optuna.create_study()
    for seed in range(repeats):
        study.sampler = GridSampler(space, seed=seed)
        study.optimize(objective, len(space["gamma"]) * len(space["C"]))
    return study


@pytest.mark.parametrize("repeats", [1, 3])
def test_importance_of_a_full_grid_is_exact(repeats: int) -> None:
    found = assessed(grid_of(lambda gamma, c: float(gamma), repeats))
    assert found.shares == {"gamma": 1.0, "C": 0.0}
    assert found.claim.parameter == "gamma" and found.claim.method == "analysis of variance"
    assert found.claim.intervals == {} and found.claim.together == 0


def test_importance_of_a_full_grid_equals_the_analysis_of_variance() -> None:
    # Main effects of variance 2/3 * 9 and 1.25, no interaction.
    found = assessed(grid_of(lambda gamma, c: 3.0 * gamma + "abcd".index(c)))
    whole = 9 * 2 / 3 + 1.25
    assert found.shares == {"gamma": round(6 / whole, 4), "C": round(1.25 / whole, 4)}


def test_ties_and_interactions_in_a_full_grid_claim_nothing() -> None:
    even = assessed(grid_of(lambda a, b: float(a + b), gamma=(1, 2, 3), c=(1, 2, 3)))
    assert even.shares == {"gamma": 0.5, "C": 0.5} and even.claim.parameter is None
    either = assessed(grid_of(lambda a, b: float(a == b), gamma=(1, 2), c=(1, 2)))
    assert either.claim.parameter is None and either.claim.together == 1
    assert either.claim.reason and "combinations explain 100 %" in either.claim.reason
    flat = assessed(grid_of(lambda a, b: 1.0))
    assert flat.shares == {} and flat.claim.reason is None


def test_a_grid_with_a_missing_cell_is_not_treated_as_full() -> None:
    study = grid_of(lambda gamma, c: math.inf if (gamma, c) == (1, "a") else float(gamma))
    found = assessed(study)
    assert found.claim.method is None and found.claim.trials == 11
    part = optuna.create_study()
    part.add_trials([t for t in study.trials if t.params["gamma"] != 3])
    assert assessed(part).claim.method is None, "the space has a third value"


def test_importance_of_a_huge_integer_domain_is_computed_without_listing_it() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(
        lambda trial: trial.suggest_int("ids", 0, 10**12) + trial.suggest_int("n", 1, 3), 30
    )
    assert set(assessed(study).shares) == {"ids", "n"}


LISTS: list[Any] = [[64, 64], [128]]  # Optuna takes them, and warns; its types do not


def awkward(trial: optuna.Trial) -> float:
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    trial.suggest_float("fixed", 1, 1)
    trial.suggest_categorical("layers", LISTS)
    step = trial.suggest_float("step", 0, 1, step=0.25)
    count = trial.suggest_int("count", 1, 1000, log=True)
    rate = trial.suggest_float("rate", 1e-5, 1, log=True)
    value = step + math.log(count) + (math.log10(rate) + 2) ** 2
    if kind == "a":
        return value + trial.suggest_float("only", 0, 2 if step < 0.5 else 3)
    if kind == "b" and trial.number % 7 == 0:
        return math.inf if trial.number % 2 else -math.inf
    return value


@pytest.mark.parametrize("count", [1, 3, 24, 80])
@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_importance_handles_conditional_fixed_and_infinite_values(count: int) -> None:
    found = assessed(searched(awkward, count, RandomSampler(seed=2)), thorough=True)
    assert "fixed" not in found.shares
    assert all(map(math.isfinite, found.shares.values()))
    assert not found.shares or sum(found.shares.values()) == pytest.approx(1, abs=1e-3)


def usual(trial: optuna.Trial) -> float:
    layers = trial.suggest_int("layers", 1, 9)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    value = 0.3 * layers + trial.suggest_float("step", 0, 1, step=0.25)
    value += math.log(trial.suggest_int("count", 1, 1000, log=True))
    value += (math.log10(trial.suggest_float("rate", 1e-5, 1, log=True)) + 2) ** 2
    if kind == "a":
        value += trial.suggest_float("only", 0, 2 if layers < 5 else 3)
    return value


@pytest.mark.parametrize("count", [3, 7, 20, 61, 200])
@pytest.mark.filterwarnings("ignore:Some regimes", "ignore:Target and region")
def test_our_ped_anova_equals_optunas(count: int) -> None:
    study = searched(usual, count, TPESampler(seed=count))
    expected = optuna.importance.get_param_importances(study)
    losses = np.array([trial.value for trial in study.trials])
    names = list(expected)
    whole = np.ones((1, count))
    (found,) = ped_anova.importances(study.trials, names, losses, whole)
    assert found == pytest.approx([expected[name] for name in names], abs=1e-12)
    # A trial that counts twice is two trials.
    twice = optuna.create_study()
    twice.add_trials([*study.trials, study.trials[0]])
    whole[0, 0] = 2
    expected = optuna.importance.get_param_importances(twice)
    (found,) = ped_anova.importances(study.trials, names, losses, whole)
    assert found == pytest.approx([expected[name] for name in names], abs=1e-12)


def test_importance_is_deterministic_and_changes_no_global_state() -> None:
    study = searched(valley, 60, RandomSampler(seed=1))
    state, filters = np.random.get_state(legacy=False), list(warnings.filters)
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    first, second = assessed(study, True), assessed(study, True)
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    optuna.logging.set_verbosity(level)
    assert first == second
    after = np.random.get_state(legacy=False)
    np.testing.assert_equal(after, state)
    assert warnings.filters == filters


def test_a_report_of_ten_thousand_trials_has_every_interval(database: Database, name: str) -> None:
    """``python -m benchmarks.report`` says how long it takes."""
    random = np.random.default_rng(0)
    space = {f"x{place}": FloatDistribution(0, 1) for place in range(10)}
    made = []
    for _ in range(10_000):
        params = {each: float(random.random()) for each in space}
        value = sum((at + 1) ** 2 * (x - 0.5) ** 2 for at, x in enumerate(params.values()))
        made.append(Made("COMPLETE", params, [value], [value + 1, value]))
    summary = summarise(database, store(database, name, made, space=space))
    assert len(summary.importance_claim.intervals) == 10
    assert "95 % interval" in render(summary, "text")
