"""The statistics of a confirmation."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from orchestrator.report.winner import CONFIRMS, confirmed, probability_best


def fresh(number: int, value: float) -> FrozenTrial:
    return create_trial(state=TrialState.COMPLETE, value=value, user_attrs={CONFIRMS: number})


def original(number: int, value: float) -> FrozenTrial:
    trial = create_trial(state=TrialState.COMPLETE, value=value)
    trial.number = number
    return trial


def test_the_interval_is_students_t() -> None:
    values = [0.90, 0.92, 0.94, 0.96]
    (found,) = confirmed([original(7, 0.99)], [fresh(7, value) for value in values], True)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert [found.low, found.high] == pytest.approx([low, high])
    assert found.searched_value == 0.99 and found.mean == pytest.approx(0.93)


def test_the_best_mean_comes_first_in_either_direction() -> None:
    trials = [fresh(1, 0.1), fresh(1, 0.2), fresh(2, 0.3), fresh(2, 0.4)]
    assert [each.number for each in confirmed([], trials, True)] == [2, 1]
    assert [each.number for each in confirmed([], trials, False)] == [1, 2]


def test_a_retraining_that_violates_a_constraint_does_not_count() -> None:
    trials = [fresh(1, 0.9), fresh(1, 0.1), fresh(2, 0.3), fresh(3, 0.8)]
    trials[0].set_constraint("size", 1)
    trials[1].set_constraint("size", 0)
    trials[3].set_constraint("size", 1)
    found = confirmed([], trials, True)
    assert [(each.number, each.values) for each in found] == [(2, [0.3]), (1, [0.1]), (3, [])]


def test_two_equal_configurations_are_each_best_with_probability_one_half() -> None:
    found = probability_best({1: [1.0, 2.0, 3.0], 2: [1.0, 2.0, 3.0]}, True)
    assert found[1] == pytest.approx(0.5, abs=0.01) and sum(found.values()) == pytest.approx(1)


def test_the_probability_is_the_posterior_of_the_difference() -> None:
    first, second = [0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.5]
    found = probability_best({1: first, 2: second}, maximize=False)
    random = np.random.default_rng(1)
    draws = [
        np.mean(each) + stats.sem(each) * random.standard_t(3, 400_000) for each in (first, second)
    ]
    assert found[1] == pytest.approx(np.mean(draws[0] < draws[1]), abs=0.01)


def test_equal_values_without_any_spread_share_the_probability() -> None:
    found = probability_best({1: [0.5, 0.5], 2: [0.5, 0.5], 3: [0.4, 0.4]}, True)
    assert found == {1: 0.5, 2: 0.5, 3: 0.0}


def test_a_single_value_has_no_interval() -> None:
    assert probability_best({1: [0.5], 2: [0.5, 0.6]}, True) == {}
