"""Successive halving with sorted rungs: the decisions of Optuna's own pruners."""

from __future__ import annotations

import math
from typing import Any, Literal

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from orchestrator.search import pruners


class ChangeReadingStorage(InMemoryStorage):
    """Tells everything again each time, as a storage may."""

    def changed_since(self, seen: tuple[int, int]) -> tuple[list[FrozenTrial], tuple[int, int]]:
        return self.get_all_trials(0, deepcopy=False), seen

    def get_all_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        self.reads = getattr(self, "reads", 0) + 1
        return super().get_all_trials(*arguments, **options)


VALUES = st.one_of(st.floats(allow_nan=True), st.sampled_from([0.0, 0.5, 1.0]))
# A round: which of the four running trials reports, its value, and how many steps it goes on.
ROUNDS = st.lists(st.tuples(st.integers(0, 3), VALUES, st.integers(1, 4)), max_size=60)
PRUNERS = [
    (optuna.pruners.SuccessiveHalvingPruner, pruners.SuccessiveHalvingPruner, {"min_resource": 1}),
    (optuna.pruners.SuccessiveHalvingPruner, pruners.SuccessiveHalvingPruner,
     {"min_resource": 2, "reduction_factor": 2, "bootstrap_count": 2}),
    (optuna.pruners.HyperbandPruner, pruners.HyperbandPruner, {"max_resource": 9}),
]  # fmt: skip


def decisions(study: optuna.Study, rounds: list[tuple[int, float, int]]) -> list[bool]:
    running: dict[int, tuple[optuna.Trial, int]] = {}
    found = []
    for slot, value, steps in rounds:
        trial, step = running.pop(slot) if slot in running else (study.ask(), 0)
        trial.report(value, step + steps)
        found.append(trial.should_prune())
        if found[-1]:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif step + steps > 9:
            study.tell(trial, 0.0 if math.isnan(value) else value)
        else:
            running[slot] = trial, step + steps
    return found


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("theirs", "ours", "options"), PRUNERS)
@settings(max_examples=40, deadline=None)
@given(rounds=ROUNDS)
def test_our_pruners_decide_as_optunas_do(
    rounds: list[tuple[int, float, int]],
    theirs: type[optuna.pruners.BasePruner],
    ours: type[optuna.pruners.BasePruner],
    options: dict[str, Any],
    direction: Literal["minimize", "maximize"],
) -> None:
    made = []
    for storage, pruner in ((InMemoryStorage(), theirs), (ChangeReadingStorage(), ours)):
        study = optuna.create_study(
            study_name="s", storage=storage, pruner=pruner(**options), direction=direction,
            sampler=optuna.samplers.RandomSampler(),
        )  # fmt: skip
        made.append((decisions(study, rounds), [each.system_attrs for each in study.trials]))
    assert made[0] == made[1]


def test_the_rungs_to_store_are_known_before_the_pruner_decides() -> None:
    pruner = pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2)
    study = optuna.create_study(storage=ChangeReadingStorage(), pruner=pruner)
    trial = study.ask()
    for step in range(1, 9):
        trial.report(float(step), step)
        frozen = trial._get_latest_trial()
        expected = pruners.noted_rung(pruner, study, study.trials[0])
        before = set(study.trials[0].system_attrs)
        assert pruners.reads_others(pruner, study, frozen) == bool(expected)
        trial.should_prune()
        after = study.trials[0].system_attrs
        assert {key: after[key] for key in after if key not in before} == expected
    assert set(study.trials[0].system_attrs) == {f"completed_rung_{each}" for each in range(3)}
