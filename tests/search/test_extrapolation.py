"""A trial that was stopped early counts as what it would have reached."""

from __future__ import annotations

import math

import pytest
from optuna.trial import TrialState, create_trial

from orchestrator.search.extrapolation import Curve, curve_of, expected_finals, gains_from


def _stopped(*losses: float) -> Curve:
    return Curve(dict(enumerate(losses, 1)), None)


def _complete(*losses: float) -> Curve:
    return Curve(dict(enumerate(losses, 1)), losses[-1])


def test_a_stopped_trial_gains_as_much_as_the_median_of_those_that_went_on() -> None:
    curves = [_complete(5, 3, 1), _complete(4, 2, 1), _complete(9, 1, 1), _stopped(6)]
    assert expected_finals(curves).tolist() == [1, 1, 1, 2]


def test_a_stopped_trial_tells_about_those_that_were_stopped_before_it() -> None:
    # From step 2 to the end 1 is gained; from step 1 to step 2 it is 10, and 3 by the complete one.
    curves = [_complete(5, 2, 1), _stopped(20, 10), _stopped(21, 11), _stopped(30)]
    assert expected_finals(curves).tolist() == [1, 9, 10, 30 - 11]


def test_without_a_longer_curve_the_last_value_counts() -> None:
    assert expected_finals([_stopped(5, 3), _stopped(4, 2)]).tolist() == [3, 2]


def test_a_trial_without_a_curve_says_nothing_about_gains() -> None:
    curves = [Curve({}, 1.0), _stopped(4)]
    assert expected_finals(curves).tolist() == [1, 4]
    assert gains_from(1, curves, expected_finals(curves)).tolist() == []


def test_the_larger_value_is_the_smaller_loss() -> None:
    trial = create_trial(state=TrialState.PRUNED, intermediate_values={3: 0.5, 1: 0.25})
    assert curve_of(trial, maximize=True) == Curve({1: -0.25, 3: -0.5}, None)


@pytest.mark.parametrize(
    "trial",
    [
        create_trial(state=TrialState.PRUNED),
        create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.5, 2: math.nan}),
        create_trial(state=TrialState.FAIL, intermediate_values={1: 0.5}),
        create_trial(value=math.inf, intermediate_values={1: 0.5}),
    ],
)
def test_a_trial_that_ended_without_a_number_has_no_curve(trial: object) -> None:
    assert curve_of(trial, maximize=False) is None  # type: ignore[arg-type]
