"""MixedGP under plain Optuna and as orch's ``mixed-gp``."""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
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
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import TrialState, create_trial

from orchestrator.errors import UsageError
from orchestrator.resolve.resolve import check_combination
from orchestrator.samplers import MixedGP
from orchestrator.search import mixed_gp
from orchestrator.search.encoded_space import EncodedSpace
from orchestrator.search.observations import observe
from orchestrator.search.samplers import build_sampler
from orchestrator.spec.model import StudySpec

Params = dict[str, Any]
Space = dict[str, BaseDistribution]


class TestAsOptunaTestsItsSamplers(
    BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: MixedGP(seed=0, n_startup_trials=2)


def _study(**options: Any) -> optuna.Study:
    directions = {key: options.pop(key) for key in ("direction",) if key in options}
    return optuna.create_study(sampler=MixedGP(seed=0, **options), **directions)


def _mixed(trial: optuna.Trial) -> float:
    """The best is 0, at x = 0.3, units = 64, and adam with a beta of 0.9."""
    loss = (trial.suggest_float("x", 0, 1) - 0.3) ** 2
    loss += abs(math.log2(trial.suggest_categorical("units", [16, 32, 64, 128]) / 64)) / 10
    if trial.suggest_categorical("optimizer", ["sgd", "adam", None]) == "adam":
        return loss + (trial.suggest_float("beta", 0, 1) - 0.9) ** 2
    return loss + 0.1


def test_it_finds_the_best_of_a_mixed_space_with_a_condition() -> None:
    study = _study()
    study.optimize(_mixed, n_trials=35)
    assert study.best_value < 0.005
    assert study.best_params["units"] == 64 and study.best_params["optimizer"] == "adam"


def test_it_maximizes_as_it_minimizes() -> None:
    minimized, maximized = _study(), _study(direction="maximize")
    minimized.optimize(_mixed, n_trials=14)
    maximized.optimize(lambda trial: -_mixed(trial), n_trials=14)
    assert [t.params for t in minimized.trials] == [t.params for t in maximized.trials]


def test_a_suggestion_follows_from_the_seed_the_number_and_the_trials() -> None:
    whole = _study()
    whole.optimize(_mixed, n_trials=16)
    for number in (0, 3, 12, 15):
        # Another process, which has not seen what came before.
        again = _study()
        again.add_trials(whole.trials[:number])
        trial = again.ask()
        _mixed(trial)
        assert trial.params == whole.trials[number].params


def test_workers_share_one_sobol_sequence_whatever_has_finished() -> None:
    one, many = _study(), _study()
    one.optimize(_mixed, n_trials=10)
    asked = [many.ask() for _ in range(10)]
    for trial in asked:
        _mixed(trial)
    assert [t.params["x"] for t in many.trials] == [t.params["x"] for t in one.trials]
    x = [t.params["x"] for t in many.trials[:8]]
    assert sorted(int(each * 8) for each in x) == list(range(8))  # one in each eighth


def test_another_seed_draws_other_points() -> None:
    first = optuna.create_study(sampler=MixedGP(seed=1)).ask()
    second = optuna.create_study(sampler=MixedGP(seed=2)).ask()
    unseeded = [optuna.create_study(sampler=MixedGP()).ask() for _ in range(2)]
    drawn = [each.suggest_float("x", 0, 1) for each in (first, second, *unseeded)]
    assert len(set(drawn)) == 4


def test_a_finite_space_is_tried_without_a_repeat_by_trials_that_run_at_once() -> None:
    def grid(trial: optuna.Trial) -> Params:
        trial.suggest_int("a", 0, 3)
        trial.suggest_categorical("b", ["x", "y", True])
        trial.suggest_float("c", 0, 1, step=0.5)
        return trial.params

    study, running = _study(), []
    for _ in range(36):
        trial = study.ask()
        running.append((trial, grid(trial)))
        if len(running) == 4:
            done, params = running.pop(0)
            study.tell(done, params["a"] + params["c"])
    drawn = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(drawn[4:])) == 32  # before the first is known the space is not
    assert len(set(drawn)) >= 34
    extra = study.ask()
    assert grid(extra)  # everything was tried: any


def test_a_large_finite_space_is_not_repeated_either() -> None:
    study = _study()
    study.optimize(
        lambda t: sum(t.suggest_int(name, 0, 9) for name in "abcd") + t.suggest_int("n", 1, 900),
        n_trials=25,
    )
    assert len({tuple(t.params.values()) for t in study.trials}) == 25


def test_running_trials_send_the_next_one_elsewhere() -> None:
    def point(trial: optuna.Trial) -> list[float]:
        return [trial.suggest_float(name, 0, 1) for name in "abc"]

    alone, beside = _study(), _study()
    beside.optimize(lambda t: sum(math.sin(6 * x) for x in point(t)), n_trials=12)
    alone.add_trials([*beside.trials, create_trial(state=TrialState.FAIL)])
    running = point(beside.ask())
    assert math.dist(running, point(beside.ask())) > math.dist(running, point(alone.ask()))


def test_many_running_trials_are_sent_further_apart_than_expected_values_would_send_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def point(trial: optuna.Trial) -> list[float]:
        return [trial.suggest_float(name, 0, 1) for name in "abc"]

    def mean_distance_of_sixteen() -> float:
        study = _study()
        study.optimize(lambda t: sum((x - 0.4) ** 2 for x in point(t)), n_trials=12)
        points = [point(study.ask()) for _ in range(16)]
        return float(np.mean([math.dist(*pair) for pair in itertools.combinations(points, 2)]))

    apart = mean_distance_of_sixteen()
    monkeypatch.setattr(mixed_gp, "_RUNNING_FOR_A_DEVIATION", math.inf)
    assert apart > mean_distance_of_sixteen()


def test_numbers_keep_their_bounds_their_step_and_their_type() -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("large", 10, 10_000, step=10)
        trial.suggest_int("log", 1, 5_000, log=True)
        trial.suggest_float("step", -1, 1, step=0.01)
        trial.suggest_float("rate", 1e-5, 1, log=True)
        return float(trial.params["large"])

    study = _study()
    study.optimize(objective, n_trials=16)
    for trial in study.trials:
        large, log, step, rate = trial.params.values()
        assert type(large) is int and large % 10 == 0 and 10 <= large <= 10_000
        assert type(log) is int and 1 <= log <= 5_000
        assert type(step) is float and -1 <= step <= 1
        assert math.isclose(step * 100, round(step * 100), abs_tol=1e-6)
        assert type(rate) is float and 1e-5 <= rate <= 1


def test_queued_values_are_kept_and_the_others_drawn_beside_them() -> None:
    study = _study()
    study.optimize(_mixed, n_trials=12)
    study.enqueue_trial({"optimizer": "sgd"})
    study.enqueue_trial({"x": 0.25, "units": 16, "optimizer": None, "beta": 0.5})
    study.optimize(_mixed, n_trials=2)
    half, whole = study.trials[-2:]
    assert half.params["optimizer"] == "sgd" and "beta" not in half.params
    assert whole.params == {"x": 0.25, "units": 16, "optimizer": None}


def test_a_queued_value_of_another_kind_fails_as_optuna_fails() -> None:
    study = _study()
    study.optimize(lambda t: t.suggest_float("rate", 1e-3, 1, log=True) + _mixed(t), n_trials=11)
    study.enqueue_trial({"rate": "fast"})
    trial = study.ask()
    assert 0 <= trial.suggest_float("x", 0, 1) <= 1  # the others are drawn
    with pytest.raises(ValueError, match="fast"):
        trial.suggest_float("rate", 1e-3, 1, log=True)


def test_a_queued_value_outside_of_its_domain_is_used_as_optuna_uses_it() -> None:
    study = _study()
    study.optimize(_mixed, n_trials=12)
    study.enqueue_trial({"x": 7.0})
    study.enqueue_trial({"x": "seven"})
    with pytest.warns(UserWarning, match="out of range"):
        study.optimize(_mixed, n_trials=1)
    assert study.trials[12].params["x"] == 7.0
    with pytest.raises(ValueError, match="seven"):
        study.optimize(_mixed, n_trials=1)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_is_avoided_and_never_the_best(bad: float) -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        return bad if x > 0.5 else (x - 0.4) ** 2

    study = _study()
    study.optimize(objective, n_trials=25)
    found = [t.params["x"] for t in study.trials[15:]]
    assert min(abs(x - 0.4) for x in found) < 0.02
    assert sum(x > 0.5 for x in found) <= 3


def test_a_failed_trial_that_was_tried_again_counts_as_its_other_attempt() -> None:
    plain, retried = _study(), _study()
    plain.optimize(_mixed, n_trials=12)
    trials = plain.trials
    lost = copy.copy(trials[5])
    lost.state, lost.values = TrialState.FAIL, None
    retried.add_trials([*trials, lost])
    plain.add_trial(trials[5])  # the same number for the next
    drawn = []
    for study in (plain, retried):
        trial = study.ask()
        _mixed(trial)
        drawn.append(trial.params)
    assert drawn[0]["optimizer"] == drawn[1]["optimizer"]


def test_pruned_trials_do_not_count_among_the_best() -> None:
    study = _study()
    space: Space = {"x": FloatDistribution(0, 1)}
    for x in (0.0, 0.1, 0.9, 1.0):
        study.add_trial(create_trial(params={"x": x}, distributions=space, value=1.0))
    for x in np.linspace(0.2, 0.45, 8):
        # Good at an early step, as a loss that rises again.
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"x": float(x)},
                distributions=space,
                intermediate_values={0: 0.0},
            )
        )
    study.add_trial(create_trial(params={"x": 0.7}, distributions=space, value=0.5))
    study.add_trial(create_trial(state=TrialState.PRUNED, params={"x": 0.3}, distributions=space))
    assert 0.5 < study.ask().suggest_float("x", 0, 1) < 0.9


def test_a_study_of_which_every_trial_was_pruned_is_searched() -> None:
    study = _study(n_startup_trials=2)
    space: Space = {"x": FloatDistribution(0, 1)}
    for x in np.linspace(0, 1, 6):
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"x": float(x)},
                distributions=space,
                intermediate_values={0: (x - 0.5) ** 2},
            )
        )
    assert 0.3 < study.ask().suggest_float("x", 0, 1) < 0.7


def test_it_learns_from_all_brackets_of_hyperband() -> None:
    def objective(trial: optuna.Trial) -> float:
        loss = _mixed(trial)
        for step in range(9):
            trial.report(loss + 1 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(sampler=MixedGP(seed=0), pruner=pruner)
    study.optimize(objective, n_trials=25)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    plain = optuna.create_study(sampler=MixedGP(seed=0))
    plain.add_trials(study.trials)
    drawn = []
    for each in (study, plain):
        trial = each.ask()
        _mixed(trial)
        drawn.append(trial.params)
    assert drawn[0] == drawn[1]


def test_a_pruned_trial_counts_as_what_it_would_have_reached() -> None:
    def study(shift: float) -> optuna.Study:
        made = _study()
        space: Space = {"x": FloatDistribution(0, 1)}
        for x in (0.1, 0.35, 0.9):
            loss = (x - 0.5) ** 2
            made.add_trial(
                create_trial(
                    params={"x": x},
                    distributions=space,
                    value=loss,
                    intermediate_values={1: loss + shift, 2: loss},
                )
            )
        for x in (0.0, 0.7, 0.8, 1.0):
            made.add_trial(
                create_trial(
                    state=TrialState.PRUNED,
                    params={"x": x},
                    distributions=space,
                    intermediate_values={1: (x - 0.5) ** 2 + shift},
                )
            )
        return made

    drawn = [study(shift).ask().suggest_float("x", 0, 1) for shift in (0.0, 5.0)]
    assert drawn[0] == pytest.approx(drawn[1], abs=1e-6)


def test_constraints_keep_it_to_what_holds_them() -> None:
    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("sum", 1000 * (x + y - 1))
        trial.set_constraint("free", -1.0)
        return -(x + 2 * y)  # the best is 2, at (0, 1)

    study = _study()
    study.optimize(objective, n_trials=25)
    feasible = [t for t in study.trials if t.constraints["sum"] <= 0]
    assert min(t.value or 0 for t in feasible) < -1.9
    assert sum(t.number >= 10 for t in feasible) >= 5


def test_where_nothing_holds_the_constraints_it_looks_for_what_does() -> None:
    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("corner", (x - 0.97) ** 2 + (y - 0.97) ** 2 - 0.03**2)
        return x

    study = _study()
    study.optimize(objective, n_trials=25)
    assert any(t.constraints["corner"] <= 0 for t in study.trials)


def test_a_parameter_that_joins_later_is_searched_with_the_others() -> None:
    study = _study()
    study.optimize(lambda t: (t.suggest_float("x", 0, 1) - 0.3) ** 2, n_trials=12)
    study.optimize(
        lambda t: (t.suggest_float("x", 0, 1) - 0.3) ** 2 + (t.suggest_float("y", 0, 1) - 0.6) ** 2,
        n_trials=14,
    )
    assert min(t.value or 0 for t in study.trials[12:]) < 0.005


def test_trials_of_a_domain_that_has_changed_are_left_out_where_they_do_not_fit() -> None:
    old, new = FloatDistribution(-1, 1), FloatDistribution(0.1, 1, log=True)
    trials = [
        create_trial(params={"x": x}, distributions={"x": old}, value=x) for x in (-0.5, 0.5, 1.0)
    ]
    observed = observe(EncodedSpace({"x": new}), trials, maximize=False)
    assert observed.losses.tolist() == [0.5, 1.0]


def test_equal_values_are_no_trouble() -> None:
    study = _study()
    study.optimize(lambda t: 0.0 * t.suggest_float("x", 0, 1), n_trials=14)
    assert len(study.trials) == 14


def test_many_trials_cost_no_more_than_the_part_that_is_modelled() -> None:
    study = _study()
    rng = np.random.default_rng(0)
    space: Space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    points = rng.random((400, 2))
    study.add_trials(
        create_trial(
            params={"x": x, "y": y}, distributions=space, value=(x - 0.3) ** 2 + (y - 0.6) ** 2
        )
        for x, y in points.tolist()
    )
    trial = study.ask()
    assert abs(trial.suggest_float("x", 0, 1) - 0.3) < 0.05
    assert abs(trial.suggest_float("y", 0, 1) - 0.6) < 0.05


def test_parameters_of_one_value_and_lists_of_anything_are_taken() -> None:
    domains: Space = {
        "one": CategoricalDistribution(["only"]),
        "fixed": IntDistribution(3, 3),
        "shape": CategoricalDistribution(["[8]", "[8, 8]", None, 1.5, False]),
    }
    study = _study(n_startup_trials=3)
    for _ in range(6):
        trial = study.ask(domains)
        study.tell(trial, float(trial.number))
    assert {t.params["one"] for t in study.trials} == {"only"}
    assert len({str(t.params["shape"]) for t in study.trials}) == 5


def test_several_directions_are_refused_with_what_to_take() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=MixedGP(seed=0))
    with pytest.raises(ValueError, match=r"several directions; use .*TPESampler"):
        study.ask().suggest_float("x", 0, 1)


@pytest.mark.parametrize("options", [{"seed": -1}, {"n_startup_trials": 0}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="or more, not"):
        MixedGP(**options)


def test_importing_it_loads_no_tensorflow_and_no_torch() -> None:
    code = "import sys; import orchestrator.samplers; print({'tensorflow', 'torch', 'keras'} & {*sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def _spec(**sampler: Any) -> StudySpec:
    return StudySpec.parse(
        {
            "study": {"name": "s", "objective": "quadratic", "trials": 9},
            "sampler": {"name": "mixed-gp", **sampler},
            "training": {"seed": 5},
        }
    )


def test_orch_refuses_several_metrics_before_the_first_trial() -> None:
    spec = StudySpec.parse(
        {
            "study": {"name": "s", "objective": "quadratic", "trials": 9, "metric": ["a", "b"]},
            "sampler": {"name": "mixed-gp"},
            "pruner": {"name": "none"},
        }
    )
    with pytest.raises(UsageError, match=r"one metric, and there are several .*nsga2 or tpe"):
        check_combination(spec, {}, several_epochs=False, checkpoints=False)


def test_every_worker_of_orch_has_the_studys_seed() -> None:
    drawn = []
    for trial_seed in (1, 2, None):
        trial = optuna.create_study(sampler=build_sampler(_spec(), trial_seed)).ask()
        drawn.append(trial.suggest_float("x", 0, 1))
    assert len(set(drawn)) == 1


def test_the_specs_keys_are_checked_against_it() -> None:
    build_sampler(_spec(n_startup_trials=5))
    with pytest.raises(UsageError, match=r"unknown key sampler\.startup for MixedGP; .*n_startup"):
        build_sampler(_spec(startup=5))
    with pytest.raises(UsageError, match=r"sampler\.n_startup_trials must be a whole number"):
        build_sampler(_spec(n_startup_trials="5"))
    with pytest.raises(UsageError, match="n_startup_trials must be 1 or more, not 0"):
        build_sampler(_spec(n_startup_trials=0))
