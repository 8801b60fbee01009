"""Hyperband with promotion: who goes on, who ends, what comes next."""

from __future__ import annotations

import math
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.base.facts import BRACKET, PAUSED, ROUND
from orchestrator.errors import UsageError
from orchestrator.search.plans.promotion import PromotionPlan
from orchestrator.search.plans.rounds import Brackets, build_rounds, end_of_round
from orchestrator.spec.model import StudySpec

EIGHT = Brackets(most=8, least=1, factor=3)


@pytest.mark.parametrize(("most", "factor"), [(8, 3), (9, 3), (27, 3), (100, 4), (16, 2), (1, 3)])
def test_bracket_sizes_and_epochs_equal_keras_tuners(most: int, factor: int) -> None:
    keras_tuner = pytest.importorskip("keras_tuner", reason="keras-tuner is not installed")
    oracle = keras_tuner.oracles.HyperbandOracle(
        objective=keras_tuner.Objective("val_accuracy", "max"), max_epochs=most, factor=factor
    )
    ours = Brackets(most, 1, factor)
    assert ours.count == oracle._get_num_brackets()
    for bracket in range(ours.count):
        for round_ in range(bracket + 1):
            assert ours.size(bracket, round_) == oracle._get_size(bracket, round_)
            assert ours.ends(bracket)[round_] == oracle._get_epochs(bracket, round_)


def test_eight_epochs_make_two_brackets_as_in_the_article() -> None:
    assert EIGHT.count == 2
    assert [EIGHT.size(1, 0), EIGHT.size(1, 1), EIGHT.size(0, 0)] == [5, 2, 3]
    assert [EIGHT.ends(1), EIGHT.ends(0)] == [[3, 8], [8]]


def trial(number: int, value: float, paused: bool = True, round_: int = 0) -> FrozenTrial:
    attributes: dict[str, Any] = {BRACKET: 0, ROUND: round_, **({PAUSED: True} if paused else {})}
    made = create_trial(
        state=TrialState.WAITING, intermediate_values={3: value}, system_attrs=attributes
    )
    made.number = made._trial_id = number
    return made


def test_a_trial_that_cannot_win_is_promoted_last() -> None:
    paused = [trial(n, value) for n, value in enumerate([0.5, 0.9, 0.1, 0.7, 0.3])]
    paused[1].set_constraint("size", 1.0)
    paused[3].set_user_attr("memory", math.nan)
    paused[4].set_user_attr("memory", -1.0)
    step = PromotionPlan(EIGHT, maximize=True, constraints=["memory"]).step(paused, budget=20)
    assert step.promote == [0, 4], "whose attribute is not set yet may still win"


def test_the_best_of_a_paused_bracket_are_promoted_and_the_others_end() -> None:
    paused = [trial(n, value) for n, value in enumerate([0.5, 0.9, 0.1, 0.7, 0.3])]
    step = PromotionPlan(EIGHT, maximize=True).step(paused, budget=20)
    assert (step.promote, sorted(step.prune), step.queue) == ([1, 3], [0, 2, 4], [])
    step = PromotionPlan(EIGHT, maximize=False).step(paused, budget=20)
    assert (step.promote, sorted(step.prune)) == ([2, 4], [0, 1, 3])


@pytest.mark.parametrize("maximize", [True, False])
def test_a_paused_trial_without_a_numeric_value_ranks_last(maximize: bool) -> None:
    paused = [trial(n, value) for n, value in enumerate([0.5, math.nan, 0.5, 0.5, 0.5])]
    paused[2].intermediate_values.clear()
    step = PromotionPlan(EIGHT, maximize=maximize).step(paused, budget=20)
    assert step.promote == [0, 3] and set(step.prune) == {1, 2, 4}


def test_the_next_bracket_is_queued_while_the_current_one_still_trains() -> None:
    some = [trial(0, 0.5), trial(1, 0.9, paused=False)]
    step = PromotionPlan(EIGHT, maximize=True).step(some, budget=20)
    assert not step.promote and not step.prune
    assert [attributes for _, attributes in step.queue] == [{BRACKET: 1, ROUND: 0}] * 3


def test_the_first_bracket_has_the_most_rounds() -> None:
    step = PromotionPlan(Brackets(most=27, least=1, factor=3), maximize=True).step([], budget=100)
    assert [attributes for _, attributes in step.queue] == [{BRACKET: 0, ROUND: 0}] * 27


def test_rounds_start_with_one_epoch_and_keep_a_third_by_default() -> None:
    promoting = {"name": "hyperband", "promote": True}
    document = {"study": {"name": "a", "objective": "digits"}, "pruner": promoting}
    assert build_rounds(StudySpec.parse(document), 8) == EIGHT
    promoting |= {"min_resource": 2, "reduction_factor": 2, "max_resource": 8}
    assert build_rounds(StudySpec.parse(document), 8) == Brackets(8, 2, 2)
    promoting |= {"min_resource": 8}
    assert build_rounds(StudySpec.parse(document), 8) == Brackets(8, 8, 2)
    assert build_rounds(StudySpec.parse({"study": document["study"]}), 8) is None


def test_no_more_trials_are_queued_than_the_budget_allows() -> None:
    plan = PromotionPlan(EIGHT, maximize=True)
    assert len(plan.step([], budget=4).queue) == 4
    assert not plan.step([trial(n, 0.5, paused=False) for n in range(4)], budget=4)


def test_a_trial_pauses_after_its_round_and_finishes_in_the_last_round() -> None:
    assert end_of_round(trial(0, 0.0), EIGHT) == 3
    assert end_of_round(trial(0, 0.0, round_=1), EIGHT) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"promote": 1}, "true or false"),
        ({"promote": True, "bootstrap_count": 2}, "no meaning with promote"),
        (
            {"promote": True, "reduction_factor": 1},
            "reduction_factor must be a whole number from 2",
        ),
        ({"promote": True, "min_resource": 0}, "min_resource must be a whole number from 1"),
        ({"promote": True, "max_resource": 5}, "must be the epochs of a full trial"),
        ({"promote": True, "min_resource": 9}, "above the 8 epochs"),
    ],
)
def test_an_invalid_plan_option_is_named(options: dict[str, Any], words: str) -> None:
    document = {
        "study": {"name": "a", "objective": "digits"},
        "pruner": {"name": "hyperband", **options},
    }
    with pytest.raises(UsageError, match=words):
        build_rounds(StudySpec.parse(document), 8)
