"""What pruning saved."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.base.facts import PAUSED
from orchestrator.report.pruning import EpochCounter
from orchestrator.storage.database import Database
from orchestrator.storage.studies import open_study


def trial(state: TrialState, steps: int, paused: bool = False) -> FrozenTrial:
    made = create_trial(
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        intermediate_values=dict.fromkeys(range(1, steps + 1), 1.0),
        system_attrs={PAUSED: True} if paused else {},
    )
    made.number = 0
    return made


COMPLETE = trial(TrialState.COMPLETE, 5)
PRUNED = trial(TrialState.PRUNED, 2)
RUNNING = trial(TrialState.RUNNING, 4)
WAITING = trial(TrialState.WAITING, 0)
PAUSED_TRIALS = [trial(TrialState.WAITING, steps, paused=True) for steps in (1, 3)]
LOST = [trial(TrialState.FAIL, 2), trial(TrialState.FAIL, 1, paused=True)]


def test_paused_trials_count_as_pruned_and_running_ones_as_far_as_they_are(
    stored: Database,
) -> None:
    counter = EpochCounter(open_study(stored, "report-one"))
    assert counter.steps == 5, "of quadratic"
    epochs = counter.count([COMPLETE, PRUNED, RUNNING, WAITING, *PAUSED_TRIALS, *LOST])
    assert epochs.trained == 5 + 2 + 4 + 1 + 3 + 2 + 1
    assert epochs.without_pruning == 5 + 5 + 4 + 5 + 5
    assert epochs.saved_ratio == 0.25


def test_nothing_is_saved_before_a_trial_is_held_back(stored: Database) -> None:
    counter = EpochCounter(open_study(stored, "report-one"))
    epochs = counter.count([RUNNING, WAITING, *LOST])
    assert (epochs.trained, epochs.without_pruning, epochs.saved_ratio) == (7, 0, None)
