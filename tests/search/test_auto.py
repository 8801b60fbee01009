"""The sampler that auto chooses for a trial follows from the study's trials alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.base.facts import DRAW_SECONDS, SAMPLER
from orchestrator.errors import UsageError
from orchestrator.search.auto import choose, samplers_used
from orchestrator.search.samplers import build_sampler
from orchestrator.spec.model import StudySpec


def _spec(**study: Any) -> StudySpec:
    return StudySpec.parse({"study": {"name": "s", "objective": "quadratic", **study}})


def _trial(
    seconds: float = 60.0,
    state: TrialState = TrialState.COMPLETE,
    values: dict[int, float] | None = None,
    attributes: dict[str, Any] | None = None,
) -> FrozenTrial:
    made = create_trial(
        state=state,
        intermediate_values=values,
        value=1.0 if state == TrialState.COMPLETE else None,
        user_attrs=attributes,
    )
    made.datetime_start = datetime(2026, 1, 1)
    made.datetime_complete = made.datetime_start + timedelta(seconds=seconds)
    return made


def _drawn(seconds: float, trial_seconds: float = 60.0) -> FrozenTrial:
    return _trial(trial_seconds, attributes={SAMPLER: "mixed-gp", DRAW_SECONDS: seconds})


def test_a_study_that_names_no_sampler_is_of_auto() -> None:
    assert _spec().sampler.name == "auto"


def test_the_first_ten_trials_are_spread_evenly_and_the_next_are_the_models() -> None:
    trials = [_trial() for _ in range(30)]
    names = [choose(_spec(), number, trials[:number]).sampler for number in range(30)]
    assert names == ["sobol"] * 10 + ["mixed-gp"] * 20


def test_many_workers_spread_trials_evenly_until_some_have_finished() -> None:
    begun = [_trial(state=TrialState.RUNNING) for _ in range(15)]
    assert choose(_spec(), 15, begun).sampler == "sobol"
    assert choose(_spec(), 18, [*begun, *[_trial() for _ in range(3)]]).sampler == "mixed-gp"


def test_several_metrics_are_searched_by_tpe() -> None:
    spec = _spec(metric=["accuracy", "seconds"])
    assert choose(spec, 50, [_trial() for _ in range(50)]).sampler == "tpe"


def test_a_study_whose_trials_are_pruned_is_the_models_too() -> None:
    pruned = [_trial(state=TrialState.PRUNED, values={1: 0.5, 3: 0.4}) for _ in range(15)]
    choice = choose(_spec(), 20, [*[_trial() for _ in range(5)], *pruned])
    assert (choice.sampler, choice.reason) == ("mixed-gp", None)


def test_a_study_whose_trials_have_no_number_is_the_models_too() -> None:
    trials = [_trial(state=TrialState.PRUNED) for _ in range(20)]  # the objective returned NaN
    assert choose(_spec(), 20, trials).sampler == "mixed-gp"


def test_short_trials_are_drawn_by_tpe() -> None:
    trials = [_trial(0.005) for _ in range(20)]
    choice = choose(_spec(), 20, trials)
    assert choice.sampler == "tpe"
    assert choice.reason == "a suggestion of mixed-gp takes 0.02 s and a trial 0.005 s"


def test_suggestions_take_a_tenth_of_the_time_at_most() -> None:
    trials = [_drawn(0.1, trial_seconds=0.5) for _ in range(20)]
    choices = [choose(_spec(), number, trials) for number in range(20, 30)]
    assert [each.sampler == "mixed-gp" for each in choices] == [n % 2 == 0 for n in range(10)]
    assert choices[0].reason == (
        "a suggestion of mixed-gp takes 0.1 s and a trial 0.5 s, so mixed-gp draws one trial in 2"
    )


def test_one_slow_suggestion_changes_nothing() -> None:
    trials = [*[_drawn(0.02) for _ in range(19)], _drawn(30.0)]
    assert choose(_spec(), 20, trials).sampler == "mixed-gp"


def test_the_newest_trials_count() -> None:
    slower = [*[_trial(0.01) for _ in range(30)], *[_trial(60) for _ in range(20)]]
    assert choose(_spec(), 50, slower).sampler == "mixed-gp"


def test_trials_without_a_time_are_drawn_by_tpe() -> None:
    assert choose(_spec(), 20, [_trial(0.0) for _ in range(20)]).sampler == "tpe"


def test_a_study_of_more_than_a_thousand_trials_is_tpes() -> None:
    trials = [_trial() for _ in range(1001)]
    assert choose(_spec(), 1000, trials[:1000]).sampler == "mixed-gp"
    assert choose(_spec(), 1001, trials).sampler == "tpe"


def test_what_was_used_is_counted_with_the_reason() -> None:
    first = [_trial(0.5, attributes={SAMPLER: "sobol"}) for _ in range(3)]
    used = samplers_used(_spec(), [*first, *[_drawn(0.1, 0.5) for _ in range(17)], _trial(0.5)])
    assert used is not None
    assert used.counts == {"mixed-gp": 17, "sobol": 3}
    said = "17 by mixed-gp, 3 spread evenly; a suggestion of mixed-gp takes 0.1 s"
    assert str(used).startswith(said)


def test_nothing_is_counted_where_the_study_names_its_sampler() -> None:
    spec = StudySpec.parse(
        {"study": {"name": "s", "objective": "quadratic"}, "sampler": {"name": "tpe"}}
    )
    assert samplers_used(spec, [_trial(attributes={SAMPLER: "random"})]) is None


def test_auto_has_no_options() -> None:
    document = {"study": {"name": "s", "objective": "quadratic"}, "sampler": {"seed_points": 3}}
    with pytest.raises(UsageError, match=r"auto has no options, but sampler\.seed_points is set"):
        build_sampler(StudySpec.parse(document))
