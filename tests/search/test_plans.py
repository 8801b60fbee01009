"""Plans: which configurations come next, from the trials so far."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.errors import UsageError
from orchestrator.search.plans.coordinate import CoordinatePlan
from orchestrator.search.plans.plan import Configuration, ConfigurationPlan, GridPlan

SPACE: dict[str, BaseDistribution] = {
    "layers": IntDistribution(1, 2),
    "width": CategoricalDistribution((8, 16)),
    "width_2": CategoricalDistribution((8, 16)),
}


def always(name: str, chosen: Mapping[str, Any]) -> bool:
    return True


def second_layer(name: str, chosen: Mapping[str, Any]) -> bool:
    return name != "width_2" or chosen["layers"] == 2


def ended(configuration: Mapping[str, Any], value: float | None) -> FrozenTrial:
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    queued = {"fixed_params": configuration}
    return create_trial(state=state, value=value, system_attrs=queued)


def open_trial(configuration: Configuration) -> FrozenTrial:
    queued = {"fixed_params": configuration}
    return create_trial(state=TrialState.WAITING, system_attrs=queued)


def carry_out(
    plan: ConfigurationPlan, value: Callable[[Configuration], float | None]
) -> list[Configuration]:
    """Run a plan to its end; ``value`` says what a configuration is worth."""
    trials: list[FrozenTrial] = []
    while stage := plan.next(trials):
        assert plan.next([*trials, *map(open_trial, stage)]) == [], "it waits for its own trials"
        trials += [ended(each, value(each)) for each in stage]
    return [trial.system_attrs["fixed_params"] for trial in trials]


def test_a_grid_has_every_combination_and_varies_the_last_parameter_fastest() -> None:
    cells = GridPlan(SPACE, always).next([])
    assert len(cells) == 8 and GridPlan(SPACE, always).size() == 8
    assert cells[0] == {"layers": 1, "width": 8, "width_2": 8}
    assert cells[1] == {"layers": 1, "width": 8, "width_2": 16}


def test_an_inactive_parameter_adds_no_cells() -> None:
    cells = GridPlan(SPACE, second_layer).next([])
    assert len(cells) == 2 + 4
    assert {"layers": 1, "width": 16} in cells


def test_a_grid_queues_each_untried_cell_once() -> None:
    plan = GridPlan(SPACE, always)
    by_hand: Configuration = {"layers": 2, "width": 16, "width_2": 8}
    left = plan.next([ended(by_hand, 1.0)])
    assert len(left) == 7 and by_hand not in left
    assert plan.next([ended(cell, None) for cell in plan.next([])]) == []


def test_a_grid_over_a_continuous_domain_is_refused_with_the_fix() -> None:
    with pytest.raises(UsageError, match=r"rate is continuous.*rate = \{ choice = \[0, 1\] \}"):
        GridPlan({"rate": FloatDistribution(0.0, 1.0)}, always)


def test_a_grid_too_large_for_memory_is_refused_at_once() -> None:
    wide: dict[str, BaseDistribution] = {"ids": IntDistribution(0, 10**12)}
    with pytest.raises(UsageError, match="1,000,000,000,001 cells is above the limit"):
        GridPlan(wide, always)
    with pytest.raises(UsageError, match=r"space\.x is continuous"):
        GridPlan({**wide, "x": FloatDistribution(0, 1)}, always)


def test_a_grid_that_is_too_large_is_refused() -> None:
    space: dict[str, BaseDistribution] = {f"x{n}": IntDistribution(1, 100) for n in range(3)}
    with pytest.raises(UsageError, match="1,000,000 cells is above the limit"):
        GridPlan(space, always)


def coordinate(maximize: bool = False, **options: Any) -> CoordinatePlan:
    space: dict[str, BaseDistribution] = {
        "x": IntDistribution(-4, 4),
        "y": CategoricalDistribution((1, 2, 3)),
        "z": FloatDistribution(1e-4, 1e-2, log=True),
    }
    return CoordinatePlan(space, always, options, maximize)


def worth(each: Configuration) -> float:
    return (float(each["x"]) - 2) ** 2 + (float(each["y"]) - 3) ** 2 + float(each["z"])


def test_coordinate_tunes_one_parameter_at_a_time_and_keeps_its_best() -> None:
    tried = carry_out(coordinate(), worth)
    assert [each["x"] for each in tried[:5]] == [-4, -2, 0, 2, 4]
    assert {(each["y"], each["z"]) for each in tried[:5]} == {(2, tried[0]["z"])}
    assert all(each["x"] == 2 for each in tried[5:]), "the best x stays"
    assert all(each["y"] == 3 for each in tried[7:])
    assert tried[-1]["z"] == 1e-2 and len(tried) == 5 + 2 + 4 == coordinate().size()


def test_plans_ignore_trials_that_were_enqueued_with_lists() -> None:
    enqueued = ended({"x": [1, 2], "y": {"a": [3]}, "width": [8]}, 0.0)
    assert coordinate().next([enqueued]) == coordinate().next([])
    assert len(GridPlan(SPACE, always).next([enqueued])) == 8


def test_coordinate_search_follows_the_direction() -> None:
    tried = carry_out(coordinate(maximize=True), worth)
    assert tried[-1]["x"] == -4 and tried[-1]["y"] == 1


def test_coordinate_search_uses_the_given_order_values_start_and_rounds() -> None:
    plan = coordinate(order=["y", "x"], values={"x": [0, 1]}, start={"z": 0.001}, rounds=2)
    tried = carry_out(plan, worth)
    assert [each["y"] for each in tried[:3]] == [1, 2, 3]
    assert {each["x"] for each in tried} == {0, 1} and {each["z"] for each in tried} == {0.001}
    assert len(tried) == 3 + 1, "a second round finds nothing new"


def test_a_pruned_value_is_never_the_best() -> None:
    def pruned_at_its_best(each: Configuration) -> float | None:
        return None if each["x"] == 2 else worth(each)

    tried = carry_out(coordinate(), pruned_at_its_best)
    assert tried[-1]["x"] in (0, 4)


def test_an_infeasible_value_is_never_the_best() -> None:
    space: dict[str, BaseDistribution] = {"x": IntDistribution(0, 2), "y": IntDistribution(0, 1)}
    plan = CoordinatePlan(space, always, {}, False, ["memory"])
    trials = []
    for x, memory in ((0, 1.0), (1, -1.0), (2, -1.0)):
        trial = ended({"x": x, "y": 1}, float(x))
        trial.set_user_attr("memory", memory)
        trials.append(trial)
    assert plan.next(trials) == [{"x": 1, "y": 0}]


def test_a_value_with_an_optuna_constraint_above_0_is_never_the_best() -> None:
    space: dict[str, BaseDistribution] = {"x": IntDistribution(0, 2), "y": IntDistribution(0, 1)}
    plan = CoordinatePlan(space, always, {}, False)
    trials = []
    for x, memory in ((0, 1.0), (1, 0.0), (2, -1.0)):
        trial = ended({"x": x, "y": 1}, float(x))
        trial.set_constraint("time", -1.0)
        trial.set_constraint("memory", memory)
        trials.append(trial)
    assert plan.next(trials) == [{"x": 1, "y": 0}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"orders": ["x"]}, "unknown key sampler.orders; did you mean 'order'"),
        ({"order": ["u"]}, "sampler.order names an unknown parameter u"),
        ({"values": {"u": [1]}}, "sampler.values names an unknown parameter u"),
        ({"values": {"x": [9]}}, "sampler.values.x cannot be 9; its domain is -4 to 4"),
        ({"start": {"y": 5}}, "sampler.start.y cannot be 5"),
        ({"rounds": 0}, "sampler.rounds"),
    ],
)
def test_an_invalid_plan_option_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        coordinate(**options)


def test_a_coordinate_plan_spans_the_whole_float_range() -> None:
    most = sys.float_info.max
    space: dict[str, BaseDistribution] = {
        "x": FloatDistribution(-most, most),
        "rate": FloatDistribution(5e-324, most, log=True),
    }
    with np.errstate(all="raise"):
        plan = CoordinatePlan(space, always, {"points": 5}, maximize=False)
    first = [each["x"] for each in plan.next([])]
    assert first == [pytest.approx(part * most) for part in (-1, -0.5, 0, 0.5, 1)]
    trials = [ended(each, abs(float(each["x"]))) for each in plan.next([])]
    rates = [float(each["rate"]) for each in plan.next(trials)]
    assert rates == sorted(rates) and all(5e-324 <= rate <= most for rate in rates)
