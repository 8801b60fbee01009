"""The pruner ``auto`` stops a trial that will hardly become the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from orchestrator.search.best_probability import BestProbabilityPruner


def _is_stopped(
    values: Sequence[float], pruner: BestProbabilityPruner | None = None, complete: int = 6
) -> bool:
    """Whether a trial is, beside complete ones that come from about 5 to about 1 in three steps."""
    study = optuna.create_study(pruner=pruner or BestProbabilityPruner())
    for place in range(complete):
        off = 0.1 * place
        curve = {1: 5 + off, 2: 3 - off, 3: 1 + off}
        study.add_trial(create_trial(value=1 + off, intermediate_values=curve))
    trial = study.ask()
    for step, value in enumerate(values, 1):
        trial.report(value, step)
    return trial.should_prune()


def test_a_trial_that_may_become_the_best_goes_on() -> None:
    assert not _is_stopped([4.5])
    assert not _is_stopped([5.5])
    assert not _is_stopped([9, 2.5])


def test_a_trial_that_lags_behind_is_stopped() -> None:
    assert _is_stopped([40])
    assert _is_stopped([5, 20])


def test_a_higher_threshold_stops_more_trials() -> None:
    assert _is_stopped([5.5], BestProbabilityPruner(threshold=0.6))
    assert not _is_stopped([4.5], BestProbabilityPruner(threshold=0.6))


def test_nothing_is_stopped_until_enough_trials_have_gone_further() -> None:
    assert not _is_stopped([40], complete=1)
    assert not _is_stopped([40], BestProbabilityPruner(n_startup_trials=3), complete=2)
    assert _is_stopped([40], complete=2)
    assert not _is_stopped([40], BestProbabilityPruner(n_warmup_steps=1))
    assert _is_stopped([40, 40], BestProbabilityPruner(n_warmup_steps=1))


def test_a_value_that_is_not_a_number_ends_a_trial() -> None:
    assert _is_stopped([math.nan])


def test_trials_that_agree_leave_no_doubt() -> None:
    study = optuna.create_study(direction="maximize", pruner=BestProbabilityPruner())
    for _ in range(4):
        study.add_trial(create_trial(value=1.0, intermediate_values={1: 1.0, 2: 1.0}))
    trial = study.ask()
    trial.report(0.999, 1)
    assert trial.should_prune()
    trial = study.ask()
    trial.report(1.0, 1)
    assert not trial.should_prune()


def test_a_stopped_trial_teaches_the_next_decision() -> None:
    study = optuna.create_study(pruner=BestProbabilityPruner(n_startup_trials=2))
    for value in (1.0, 2.0):
        pruned = create_trial(
            state=TrialState.PRUNED, intermediate_values={1: 10 + value, 2: value}
        )
        study.add_trial(pruned)
    trial = study.ask()
    trial.report(40, 1)
    assert trial.should_prune()


@pytest.mark.parametrize(
    "options", [{"threshold": 1.0}, {"n_startup_trials": 0}, {"n_warmup_steps": -1}]
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        BestProbabilityPruner(**options)  # type: ignore[arg-type]
