"""ASHA with promotion: who goes on, who ends, when a new trial begins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.base.facts import BRACKET, PAUSED, ROUND
from orchestrator.search.encoded_space import EncodedSpace
from orchestrator.search.observations import observe
from orchestrator.search.plans.asha import AshaPlan
from orchestrator.search.plans.rounds import Rungs, build_rounds, end_of_round, is_paused
from orchestrator.spec.model import StudySpec

NINE = Rungs(most=9, least=1, factor=3)
PLAN = AshaPlan(NINE, maximize=True)


def trial(
    number: int, *values: float, paused: bool = True, state: TrialState = TrialState.WAITING
) -> FrozenTrial:
    """One that has come to as many rungs as it has values."""
    ends = NINE.ends(0)[: len(values)]
    is_paused = paused and not state.is_finished()
    attributes: dict[str, Any] = {BRACKET: 0, ROUND: max(0, len(values) - 1)}
    if is_paused:
        attributes[PAUSED] = True
    made = create_trial(
        params={"x": number / 100},
        distributions={"x": FloatDistribution(0, 1)},
        state=state,
        value=values[-1] if state == TrialState.COMPLETE else None,
        intermediate_values=dict(zip(ends, values, strict=True)),
        system_attrs=attributes,
    )
    made.number = made._trial_id = number
    return made


def test_a_new_trial_begins_while_nobody_is_among_the_best_third() -> None:
    for trials in ([], [trial(0, 0.5)], [trial(0, 0.5), trial(1, 0.9)]):
        step = PLAN.step(trials, budget=20)
        assert step.queue == [({}, {BRACKET: 0, ROUND: 0})]
        assert not step.promote and not step.prune


def test_the_best_third_of_a_rung_goes_on() -> None:
    trials = [trial(0, 0.5), trial(1, 0.9), trial(2, 0.1)]
    assert PLAN.step(trials, budget=20).promote == [1]
    assert AshaPlan(NINE, maximize=False).step(trials, budget=20).promote == [2]


def test_the_highest_rung_comes_first() -> None:
    second = [trial(number, 0.5, 0.6 + number / 100) for number in range(3)]
    first = [trial(number, 0.9) for number in range(3, 6)]
    assert PLAN.step([*second, *first], budget=20).promote == [2]


def test_a_trial_that_was_promoted_too_early_keeps_no_better_one_back() -> None:
    early = trial(0, 0.2, 0.3)
    later = [trial(number, 0.5 + number / 10) for number in range(1, 6)]
    assert PLAN.step([early, *later], budget=20).promote == [5]
    went_on = trial(5, 1.0, paused=False, state=TrialState.RUNNING)
    assert PLAN.step([early, *later[:-1], went_on], budget=20).promote == [4]


def test_a_trial_ends_once_it_cannot_be_promoted_any_more() -> None:
    trials = [trial(number, number / 10) for number in range(5)]
    assert PLAN.step(trials, budget=15).prune == [], "five of fifteen may go on"
    assert PLAN.step(trials, budget=9).prune == [0, 1], "three of nine may"


def test_a_trial_that_failed_is_not_of_its_rung() -> None:
    failed = [trial(0, 0.9, state=TrialState.FAIL), trial(1, 0.8, state=TrialState.FAIL)]
    assert PLAN.step([*failed, trial(2, 0.5)], budget=20).queue


@pytest.mark.parametrize("maximize", [True, False])
def test_a_trial_without_a_number_ends(maximize: bool) -> None:
    trials = [trial(0, math.nan), trial(1, 0.5), trial(2, 0.5)]
    step = AshaPlan(NINE, maximize).step(trials, budget=20)
    assert (step.promote, step.prune) == ([1], [0])


def test_a_trial_that_cannot_win_is_promoted_last() -> None:
    trials = [trial(0, 0.5), trial(1, 0.9), trial(2, 0.1)]
    trials[1].set_constraint("size", 1.0)
    assert PLAN.step(trials, budget=20).promote == [0]


def test_when_the_budget_is_used_up_workers_wait_for_those_that_train() -> None:
    trials = [trial(0, 0.5), trial(1, 0.9, paused=False, state=TrialState.RUNNING)]
    step = PLAN.step(trials, budget=2)
    assert not step.queue and not step.promote


def test_at_the_end_the_best_of_the_highest_rung_goes_on_until_one_is_complete() -> None:
    paused = [trial(0, 0.9, 0.6), trial(1, 0.8, 0.7), trial(2, 0.1)]
    assert PLAN.step(paused, budget=3).promote == [1]
    complete = trial(1, 0.8, 0.7, 0.6, state=TrialState.COMPLETE)
    assert PLAN.step([paused[0], complete], budget=2).prune == [0]
    assert not PLAN.step([complete], budget=1)


def test_rungs_are_at_powers_of_the_factor() -> None:
    pruner = {"name": "asha", "promote": True}
    document = {"study": {"name": "a", "objective": "digits"}, "pruner": pruner}
    rungs = build_rounds(StudySpec.parse(document), 8)
    assert rungs is not None and rungs.ends(0) == [1, 3, 8]
    pruner |= {"min_resource": 2, "reduction_factor": 2}
    rungs = build_rounds(StudySpec.parse(document), 8)
    assert rungs is not None and rungs.ends(0) == [2, 4, 8]


def test_a_trial_pauses_at_each_rung_but_the_last() -> None:
    places = [trial(0, *[0.5] * rungs) for rungs in (1, 2, 3)]
    assert [end_of_round(each, NINE) for each in places] == [1, 3, None]


def test_a_paused_trial_is_told_from_one_that_was_given_back_and_its_end_from_an_objectives() -> (
    None
):
    assert is_paused(trial(0, 0.5), NINE) and is_paused(trial(0, 0.5, 0.6), NINE)
    assert not is_paused(trial(0, 0.5, paused=False), NINE), "a stopped worker gave it back"
    assert not is_paused(trial(0, 0.5, paused=False, state=TrialState.RUNNING), NINE)
    ended = trial(0, 0.5, 0.6, state=TrialState.PRUNED)
    assert is_paused(ended, NINE) and not is_paused(ended, None)
    ended.intermediate_values[4] = 0.4
    assert not is_paused(ended, NINE), "the objective ended it within its round"


def test_a_sampler_learns_from_paused_trials_what_they_may_reach() -> None:
    trials = [
        trial(0, 0.5, 0.7, 0.8, state=TrialState.COMPLETE),
        trial(1, 0.6, 0.9),
        trial(2, 0.3),
        trial(3, 0.7, paused=False, state=TrialState.RUNNING),
    ]
    observed = observe(EncodedSpace({"x": FloatDistribution(0, 1)}), trials, maximize=True)
    # From 3 epochs to 9 the complete one gained 0.1. From 1 epoch on, it gained 0.3 and the second
    # is expected to gain 0.4.
    assert np.allclose(observed.losses, [-0.8, -1.0, -0.65])
    assert len(observed.running) == 1, "who has not come to its first rung is not known yet"
