"""``sampler.cost = "seconds"``: short trials are preferred as far as they promise as much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.base.facts import SAMPLER
from orchestrator.errors import UsageError
from orchestrator.resolve.resolve import check_combination
from orchestrator.samplers import MixedGP
from orchestrator.search.auto import samplers_used
from orchestrator.search.cost import ExpectedSeconds
from orchestrator.search.encoded_space import EncodedSpace
from orchestrator.search.samplers import SAMPLERS, build_sampler
from orchestrator.spec.model import StudySpec

SPACE = {"x": FloatDistribution(0, 1)}


def _trial(
    x: float,
    seconds: float | None,
    value: float | None = 1.0,
    steps: int = 0,
    attributes: dict[str, Any] | None = None,
) -> FrozenTrial:
    """A complete trial, or without a value a pruned one."""
    made = create_trial(
        state=TrialState.COMPLETE if value is not None else TrialState.PRUNED,
        params={"x": x},
        distributions={**SPACE},
        value=value,
        intermediate_values=dict.fromkeys(range(steps), 0.5),
        user_attrs=attributes,
    )
    made.datetime_start = datetime(2026, 1, 1)
    made.datetime_complete = (
        None if seconds is None else made.datetime_start + timedelta(seconds=seconds)
    )
    return made


def _expected(trials: Sequence[FrozenTrial], *at: float) -> list[float]:
    seconds = ExpectedSeconds(EncodedSpace({**SPACE}), trials)
    return [math.exp(each) for each in seconds(np.array(at)[:, None])]


def test_the_seconds_of_a_configuration_are_expected_as_those_of_its_neighbours() -> None:
    trials = [_trial(x, 10 * 100**x) for x in np.linspace(0, 1, 9)]
    low, high = _expected(trials, 0.2, 0.8)
    assert low == pytest.approx(10 * 100**0.2, rel=0.2)
    assert high == pytest.approx(10 * 100**0.8, rel=0.2)


def test_a_pruned_trial_counts_as_if_it_had_run_to_the_end() -> None:
    whole = [_trial(x, 10.0 if x < 0.5 else 80.0, steps=8) for x in np.linspace(0, 1, 8)]
    pruned = [_trial(x, 20.0, value=None, steps=2) for x in np.linspace(0.5, 1, 6)]
    assert _expected(whole + pruned, 0.9) == [pytest.approx(80, rel=0.1)]


def test_a_trial_without_a_time_or_a_step_is_left_out() -> None:
    known = [_trial(x, 10 * 100**x) for x in np.linspace(0, 1, 9)]
    unknown = [_trial(0.9, None), _trial(0.9, 0.1, value=None)]
    assert _expected(known + unknown, 0.9) == _expected(known, 0.9)


@pytest.mark.parametrize("seconds", [[], [5.0, 50.0], [60.0] * 9])
def test_without_a_difference_every_configuration_costs_the_same(seconds: list[float]) -> None:
    trials = [_trial(place / 10, each) for place, each in enumerate(seconds)]
    assert len(set(_expected(trials, 0.1, 0.5, 0.9))) == 1


def _two_optima(x: float) -> float:
    """As good at 0.2 as at 0.8."""
    return min((x - 0.2) ** 2, (x - 0.8) ** 2)


def _drawn(**options: Any) -> list[float]:
    """What is drawn beside trials that take 100 times as long at 1 as at 0."""
    study = optuna.create_study(sampler=MixedGP(seed=0, **options))
    for x in (0.0, 0.1, 0.35, 0.5, 0.65, 0.9, 1.0):
        study.add_trial(_trial(x, 10 * 100**x, _two_optima(x)))
    study.sampler = MixedGP(seed=0, n_startup_trials=7, **options)
    drawn = []
    for _ in range(6):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        study.tell(trial, _two_optima(x))
        done = study.get_trials(deepcopy=False)[trial.number]
        done.datetime_start = datetime(2026, 1, 1)
        done.datetime_complete = done.datetime_start + timedelta(seconds=10 * 100**x)
        drawn.append(x)
    return drawn


def test_of_two_optima_the_one_with_the_shorter_trials_is_searched() -> None:
    assert max(_drawn()[:4]) > 0.6
    assert max(_drawn(cost="seconds")[:4]) < 0.6


def test_the_same_trials_and_times_give_the_same_configurations() -> None:
    assert _drawn(cost="seconds") == _drawn(cost="seconds")


def test_another_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="cost must be seconds, not 'euros'"):
        MixedGP(cost="euros")


def _spec(name: str = "mixed-gp", **study: Any) -> StudySpec:
    document = {"name": "s", "objective": "quadratic", "trials": 9, **study}
    sampler, pruner = {"name": name, "cost": "seconds"}, {"name": "none"}
    return StudySpec.parse({"study": document, "sampler": sampler, "pruner": pruner})


def _check(spec: StudySpec) -> None:
    check_combination(spec, {}, several_epochs=False, checkpoints=False)


@pytest.mark.parametrize("chosen", [None, "mixed-gp"])
def test_orchs_mixed_gp_and_autos_weigh_it(chosen: str | None) -> None:
    spec = _spec("mixed-gp" if chosen is None else "auto")
    _check(spec)
    sampler = build_sampler(spec, 1, chosen=chosen)
    assert isinstance(sampler, MixedGP)
    study = optuna.create_study(sampler=sampler)
    for x in np.linspace(0, 1, 12):
        study.add_trial(_trial(float(x), 10 * 100**x, _two_optima(float(x))))
    assert study.ask().suggest_float("x", 0, 1) < 0.5


@pytest.mark.parametrize("name", sorted({*SAMPLERS, "grid", "coordinate"} - {"mixed-gp"}))
def test_it_is_refused_beside_a_sampler_that_expects_no_gain(name: str) -> None:
    with pytest.raises(UsageError, match=rf"and {name} expects none; .* --sampler mixed-gp"):
        _check(_spec(name))


def test_it_is_refused_with_several_metrics() -> None:
    with pytest.raises(UsageError, match=r"sampler\.cost divides .* there are several \(a, b\)"):
        _check(_spec("auto", metric=["a", "b"]))


def test_a_cost_that_is_not_known_is_refused_as_the_spec_is_read() -> None:
    document = {"study": {"name": "s", "objective": "quadratic"}, "sampler": {"cost": "euros"}}
    with pytest.raises(UsageError, match=r"sampler\.cost"):
        StudySpec.parse(document)


def test_the_report_says_where_auto_does_not_weigh_it() -> None:
    trials = [_trial(0.5, 0.01, attributes={SAMPLER: "tpe"}) for _ in range(20)]
    used = samplers_used(_spec("auto"), trials)
    assert used is not None and used.reason is not None
    assert used.reason.endswith("; tpe does not weigh the seconds of a trial")
