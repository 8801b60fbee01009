"""Several metrics, and pruning by one of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from worker.workplace import SetFunction, Workplace

from orchestrator.errors import UsageError
from orchestrator.resolve.resolve import resolve
from orchestrator.spec.model import StudySpec
from orchestrator.storage.rdb_storage import make_rdb_storage

METRICS = {"metric": ["size", "accuracy"], "direction": ["minimize", "maximize"]}
PRUNERS: dict[str, dict[str, Any]] = {
    "hyperband": {"min_resource": 1, "max_resource": 9, "reduction_factor": 3},
    "asha": {"min_resource": 1, "reduction_factor": 3},
    "median": {"n_startup_trials": 3},
    "percentile": {"percentile": 50.0, "n_startup_trials": 3},
    "patient": {"patience": 2},
    "threshold": {"lower": 0.3},
}


def reports_accuracy(trial: optuna.Trial) -> tuple[float, float]:
    """Reports its second metric: x that grows to its value, or falls where x is small."""
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 10):
        trial.report(x + (step if x > 0.5 else -step) / 100, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return 1 - x**2, x


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_trials_are_pruned_by_the_named_metric_and_others_read_the_study(
    place: Workplace, function: SetFunction, pruner: str, sampler: str
) -> None:
    function(reports_accuracy)
    place.create(
        "hooked:plain", trials=40, study=METRICS, sampler={"name": sampler},
        pruner={"name": pruner, "metric": "accuracy", **PRUNERS[pruner]},
    )  # fmt: skip
    place.worker().run()
    trials = place.trials()
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.PRUNED] > 0 and states[TrialState.COMPLETE] > 0
    assert states.total() == 40 == states[TrialState.PRUNED] + states[TrialState.COMPLETE]
    ended = {TrialState.PRUNED: [], TrialState.COMPLETE: []}  # type: dict[TrialState, list[float]]
    for trial in trials:
        ended[trial.state].append(trial.params["x"])
    if pruner not in ("patient", "threshold"):
        assert np.mean(ended[TrialState.PRUNED]) < np.mean(ended[TrialState.COMPLETE])

    loaded = optuna.load_study(study_name=place.name, storage=make_rdb_storage(place.url))
    assert [trial.state for trial in loaded.trials] == [trial.state for trial in trials]
    assert all(trial.state == TrialState.COMPLETE for trial in loaded.best_trials)
    assert all(trial.values is None for trial in loaded.trials if trial.state.name == "PRUNED")


def test_the_decisions_are_those_of_the_same_study_of_that_metric_alone(
    place: Workplace, function: SetFunction
) -> None:
    pruner = {"name": "asha", "min_resource": 1, "reduction_factor": 3}
    function(reports_accuracy)
    place.create("hooked:plain", trials=30, study=METRICS, pruner={**pruner, "metric": "accuracy"})
    place.worker().run()
    several = [(trial.state, trial.params) for trial in place.trials()]

    function(lambda trial: reports_accuracy(trial)[1])
    place.name += "-alone"
    one = {"metric": "accuracy", "direction": "maximize"}
    place.create("hooked:plain", trials=30, study=one, pruner=pruner)
    place.worker().run()
    assert [(trial.state, trial.params) for trial in place.trials()] == several


def test_without_a_metric_nothing_is_pruned(place: Workplace, function: SetFunction) -> None:
    function(reports_accuracy)
    place.create("hooked:plain", trials=8, study=METRICS)
    place.worker().run()
    assert {trial.state for trial in place.trials()} == {TrialState.COMPLETE}


@pytest.mark.parametrize(
    ("pruner", "reason"),
    [
        ({"name": "hyperband"}, "cannot be pruned: no epoch is better in all of them; use --pruner "
         "none, or name the one to prune by, e.g. --set pruner.metric=size"),
        ({"metric": "acuracy"}, "unknown pruner.metric 'acuracy'; did you mean 'accuracy'?"),
        ({"metric": "accuracy", "promote": True}, "pruner.promote ranks whole trials by one value"),
        ({"name": "wilcoxon", "metric": "accuracy"}, "wilcoxon compares whole trials by one value"),
    ],
)  # fmt: skip
def test_what_cannot_be_pruned_is_refused_in_one_line(pruner: dict[str, Any], reason: str) -> None:
    study = {"name": "s", "objective": "hooked:plain", **METRICS}
    with pytest.raises(UsageError) as refused:
        resolve(StudySpec.parse({"study": study, "pruner": pruner}))
    assert reason in str(refused.value) and "\n" not in str(refused.value)


def test_a_pruner_that_is_only_given_a_metric_is_hyperband() -> None:
    study = {"name": "s", "objective": "hooked:plain", **METRICS}
    found = resolve(StudySpec.parse({"study": study, "pruner": {"metric": "size"}})).spec
    assert (found.pruner.name, found.pruner.metric) == ("hyperband", "size")
