"""A study with constraints: who cannot win wins nowhere, and no model of such a trial is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import pytest
from optuna.trial import TrialState
from served import study_detail
from worker.workplace import SetFunction, Workplace, take

from orchestrator.errors import PatienceExceeded
from orchestrator.report.progress import ProgressReader
from orchestrator.report.pruning import EpochCounter
from orchestrator.report.reader import summarise
from orchestrator.spec.eligibility import violation
from orchestrator.storage import worker_storage
from orchestrator.storage.claims import Writes
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.rdb_storage import make_rdb_storage
from orchestrator.storage.studies import ranking
from orchestrator.winner.confirm import confirm_study
from orchestrator.winner.models import kept_models
from orchestrator.worker.trial import Trial

UNSET = object()
PRUNED = -1.0


def test_an_infeasible_trial_is_never_best_and_its_model_is_not_kept(
    place: Workplace, function: SetFunction
) -> None:
    # Each trial's loss, and its constraint's attribute before and after the model is offered.
    trials = [
        (3.0, 0, UNSET),
        (0.9, UNSET, 1.0),
        (0.8, -math.nan, UNSET),
        (0.7, UNSET, UNSET),
        (0.6, True, UNSET),
        (0.5, "-1", UNSET),
        (0.4, UNSET, None),
        (2.5, UNSET, False),
        (2.0, -math.inf, UNSET),
        (0.3, UNSET, math.inf),
        (0.2, -1.0, 0.5),
        (0.1, UNSET, [-1]),
        (9.0, -1.0, UNSET),
        (PRUNED, -1.0, UNSET),
        (PRUNED, UNSET, UNSET),
    ]
    saved = []

    def run(trial: Trial) -> float:
        loss, before, after = trials[trial.number]
        if before is not UNSET:
            trial.set_user_attr("too_big", before)
        if loss == PRUNED:
            trial.report(0.0, 1)
            raise optuna.TrialPruned

        def save(path: Path) -> None:
            saved.append(trial.number)
            path.write_bytes(b"model")

        trial.offer_model(-loss, save)
        if after is not UNSET:
            trial.set_user_attr("too_big", after)
        return -loss

    function(run)
    place.create(
        "hooked:plain", trials=len(trials), sampler={"name": "tpe"}, worker={"keep_models": 2},
        study={"direction": "maximize", "constraints": ["too_big"]},
    )  # fmt: skip
    place.worker().run()
    states = [trial.state for trial in place.trials()]
    assert states == [TrialState.COMPLETE] * 13 + [TrialState.PRUNED] * 2
    told = [trial.constraints["too_big"] for trial in place.trials()]
    assert all(map(math.isfinite, told)), "optuna-dashboard's page reads no other"
    assert told[2] > 0, "whatever the sign of what is no number"
    database, study = place.database, place.study
    assert [model.number for model in kept_models(database, study, 9)] == [8, 7]
    assert place.execute("SELECT count(*) AS n FROM orch.artifact") == [{"n": 2}]
    assert saved == [0, 1, 3, 6, 7, 8, 9, 10, 11], "what is known to break it is not even written"
    assert [trial.number for trial in ranking(place.trials(), study.spec)] == [8, 7, 0, 12]
    assert ProgressReader(database, study, EpochCounter(study)).read().best_number == 8
    [metrics] = database.rows("metrics_of_studies", name=study.name)
    assert metrics["best"] == -2.0


def test_infinite_and_infeasible_trials_stay_out_of_the_pareto_front(
    place: Workplace, function: SetFunction
) -> None:
    results = [
        ((1.0, 1.0), -1.0),
        ((0.5, math.inf), -1.0),
        ((0.4, 0.4), 0.1),
        ((-math.inf, 0.1), 0),
    ]

    def run(trial: Trial) -> tuple[float, float]:
        values, too_big = results[trial.number]
        trial.set_user_attr("too_big", too_big)
        trial.offer_model(values[0], lambda path: path.write_bytes(b"model"))
        return values

    function(run)
    another = Workplace(place.own, f"{place.name}-another")
    for each in (another, place):
        each.create(
            "hooked:plain", trials=len(results), worker={"keep_models": 2},
            study={
                "metric": ["loss", "size"], "direction": ["minimize", "minimize"],
                "constraints": ["too_big"],
            },
        )  # fmt: skip
        each.worker().run()
    database, study = place.database, place.study
    assert [model.number for model in kept_models(database, study, 9)] == [0]
    assert [model.number for model in kept_models(database, another.study, 9)] == [0]
    assert ProgressReader(database, study, EpochCounter(study)).read().best_number == 0
    assert summarise(database, study).pareto == [0]


# trial.set_constraint of Optuna 5

# Each trial's loss, and what it sets.
_SET: list[tuple[float, dict[str, float]]] = [
    (0.1, {"a": 1.0}),
    (0.9, {"a": -1.0}),
    (0.2, {"a": -1.0, "b": 0.5}),
    (0.3, {"a": 0.0, "b": -0.0}),
    (0.25, {"a": math.inf}),
    (0.8, {"a": -math.inf, "b": 0.0}),
    (PRUNED, {"a": -1.0}),
    (0.7, {}),
    (0.05, {"a": math.nan}),
    (PRUNED, {"a": 3.0}),
    (math.inf, {"a": -1.0}),
]


def _set_constraints(trial: Trial) -> float:
    loss, constraints = _SET[trial.number]
    if loss == PRUNED:
        trial.report(0.0, 1)
    for name, value in constraints.items():
        trial.set_constraint(name, value)
    if loss == PRUNED:
        raise optuna.TrialPruned
    trial.offer_model(loss, lambda path: path.write_bytes(b"model"))
    return loss


def test_every_view_names_the_same_best_trial_as_optuna(
    place: Workplace, function: SetFunction
) -> None:
    function(_set_constraints)
    place.create(
        "hooked:plain", trials=10, worker={"keep_models": 2, "max_failures": 5}
    )  # fmt: skip
    place.worker().run()
    database, study = place.database, place.study
    plain = optuna.load_study(study_name=place.name, storage=make_rdb_storage(place.url))
    best = plain.best_trial
    assert best.number == 3
    assert [trial.constraints for trial in plain.trials[:6]] == [each for _, each in _SET[:6]]
    # Optuna, too, refuses NaN.
    assert plain.trials[8].state == TrialState.FAIL
    ranked = [trial.number for trial in ranking(place.trials(), study.spec)]
    assert ranked == [3, 7, 5, 1]
    assert [model.number for model in kept_models(database, study, 9)] == ranked[:2]
    assert ProgressReader(database, study, EpochCounter(study)).read().best_number == 3
    [metrics] = database.rows("metrics_of_studies", name=place.name)
    assert metrics["best"] == best.value
    summary = summarise(database, study)
    assert summary.best is not None and summary.best.number == 3
    assert summary.verdict[0].startswith("Trial 3 is the best of 10")
    assert [trial.number for trial in summary.ranked()] == ranked
    told = {trial.number: trial.feasible for trial in summary.trials}
    assert [told[number] for number in (0, 3, 6, 7, 9)] == [False, True, True, None, False]
    assert [trial["number"] for trial in study_detail(place.url, study.study_id)["best_trials"]] == [3]  # fmt: skip
    confirming = confirm_study(database, study, place.trials(), top=2, seeds=1)
    queued = PostgresStorage(database).get_all_trials(confirming.study_id)
    assert [trial.user_attrs["confirms"] for trial in queued] == ranked[:2]


def test_the_pareto_front_with_constraints_equals_optunas(
    place: Workplace, function: SetFunction
) -> None:
    results = [
        ((1.0, 1.0), {"a": -1.0}),
        ((0.2, 0.2), {"a": 1.0}),
        ((0.5, 2.0), {"a": -1.0, "b": 0.0}),
        ((0.4, 3.0), {"a": -1.0, "b": 0.1}),
        ((2.0, 0.5), {}),
        ((2.5, 0.6), {"a": -1.0}),
    ]

    def run(trial: Trial) -> tuple[float, float]:
        values, constraints = results[trial.number]
        for name, value in constraints.items():
            trial.set_constraint(name, value)
        return values

    function(run)
    place.create(
        "hooked:plain", trials=len(results),
        study={"metric": ["loss", "size"], "direction": ["minimize", "minimize"]},
    )  # fmt: skip
    place.worker().run()
    plain = optuna.load_study(study_name=place.name, storage=make_rdb_storage(place.url))
    front = [trial.number for trial in plain.best_trials]
    assert front == [0, 2, 4]
    assert summarise(place.database, place.study).pareto == front
    shown = study_detail(place.url, place.study.study_id)
    assert [trial["number"] for trial in shown["best_trials"]] == front
    assert [trial["constraints"] for trial in shown["trials"]] == [
        list(constraints.values()) for _, constraints in results
    ]


def test_the_dashboard_opens_and_marks_a_study_of_infeasible_trials(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: Trial) -> float:
        trial.set_constraint("a", math.inf)
        return 0.5

    function(run)
    place.create("hooked:plain")
    place.worker().run()
    shown = study_detail(place.url, place.study.study_id)
    assert shown["trials"][0]["constraints"] == [1e9], "JSON has no infinity"
    summary = summarise(place.database, place.study)
    assert summary.best is None
    assert "None of the 1 complete trial keeps the constraints." in summary.verdict
    reader = ProgressReader(place.database, place.study, EpochCounter(place.study))
    assert reader.best_line(reader.read()) == "none of 1 complete trial may win so far"


def test_the_next_trials_sampler_sees_the_stored_constraints(
    place: Workplace, function: SetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server wrote with the end, and what the objective set, without asking again."""
    monkeypatch.setattr(worker_storage, "_FRESH_SECONDS", 1000.0)
    read: list[dict[str, float]] = []

    def run(trial: Trial) -> float:
        complete = (TrialState.COMPLETE, TrialState.PRUNED)
        read[:] = [each.constraints for each in trial.study.get_trials(states=complete)]
        trial.set_constraint("here", trial.number - 1)
        if trial.number == 1:
            trial.set_user_attr("there", -2)
        return 0.5

    function(run)
    place.create("hooked:plain", trials=3, study={"constraints": ["there"]})
    place.worker().run()
    assert read == [{"here": -1.0, "there": 1e9}, {"here": 0.0, "there": -2.0}]
    assert read == [trial.constraints for trial in place.trials()[:2]]


def test_a_constraint_set_by_the_trial_overrides_an_attribute_of_that_name(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: Trial) -> float:
        trial.set_constraint("size", -1)
        trial.set_user_attr("size", 5)
        return 0.5

    function(run)
    place.create("hooked:plain", study={"constraints": ["size"]})
    place.worker().run()
    assert place.only().constraints == {"size": -1.0}
    assert ranking(place.trials(), place.study.spec) == place.trials()
    assert place.database.rows("best_trial", study_id=place.study.study_id, maximize=False)


@pytest.mark.parametrize("ends", ["plain Optuna", "the proxy"])
def test_the_specs_constraints_are_stored_however_the_trial_ends(
    place: Workplace, ends: str
) -> None:
    place.create("hooked:plain", trials=3, study={"constraints": ["too_big"]})
    url, database = place.url, place.database
    storage = make_rdb_storage(url) if ends == "plain Optuna" else PostgresStorage(database)
    plain = optuna.load_study(study_name=place.name, storage=storage)
    for value in (0.5, -0.5):
        trial = plain.ask()
        trial.set_user_attr("too_big", value)
        plain.tell(trial, value)
    plain.add_trial(optuna.trial.create_trial(value=-1.0, user_attrs={"too_big": -3}))
    told = [trial.constraints for trial in plain.get_trials()]
    assert told == [{"too_big": 0.5}, {"too_big": -0.5}, {"too_big": -3.0}]
    assert plain.best_trial.number == 2


def test_a_new_attempt_sets_its_own_constraints(place: Workplace, function: SetFunction) -> None:
    """Optuna ignores a second value of a name: nothing may be left of the lost attempt's."""

    def run(trial: Trial) -> float:
        attempts.append(trial.number)
        inherited.append(trial.storage.get_trial(trial._trial_id).constraints)
        trial.suggest_float("x", 0, 1)
        trial.set_constraint("a", -len(attempts))
        trial.report(0.5, 1)
        if len(attempts) == 1:
            raise ValueError
        if len(attempts) == 2:
            leaving.leave()
            trial.report(0.5, 2)
        return 0.5

    attempts: list[int] = []
    inherited: list[dict[str, float]] = []
    function(run)
    place.create("hooked:plain", worker={"max_retries": 1})
    leaving = place.worker()
    leaving.run()
    failed, waiting = place.trials()
    assert (failed.state, failed.constraints) == (TrialState.FAIL, {"a": -1.0})
    assert (waiting.state, waiting.constraints) == (TrialState.WAITING, {})
    place.worker().run()
    assert attempts == [0, 1, 1] and inherited == [{}, {}, {}]
    assert place.trials()[1].constraints == {"a": -3.0}


def test_a_late_delivered_trial_has_the_constraints_that_were_set(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: Trial) -> float:
        trial.set_constraint("early", 1)
        trial.report(0.5, 1)
        place.wait_until_arrived(trial)
        place.own.goes_away()
        trial.set_constraint("late", -2)
        trial.set_user_attr("memory", -3)
        return 0.5

    function(run)
    place.create(
        "hooked:plain", study={"constraints": ["memory"]}, worker={"storage_patience": 0.3}
    )
    mine = uuid4()
    with pytest.raises(PatienceExceeded, match="the storage is out of reach"):
        place.worker(mine).run()
    place.own.comes_back()
    assert place.only().constraints == {"early": 1.0}
    place.worker(mine).run()
    assert place.only().constraints == {"early": 1.0, "late": -2.0, "memory": -3.0}


def test_infeasible_improvements_do_not_affect_the_terminator(
    place: Workplace, function: SetFunction
) -> None:
    """A terminator looks at the trials that may win: here nothing gets better after the first."""

    def run(trial: Trial) -> float:
        trial.set_constraint("a", 1 if trial.number else 0)
        return -float(trial.number)

    function(run)
    place.create(
        "hooked:plain", trials=30,
        terminator={"name": "stagnation", "min_n_trials": 1, "max_stagnation_trials": 2},
    )  # fmt: skip
    place.worker().run()
    assert len(place.trials()) < 30


# One rule, in Python and on the server

_VALUES: list[Any] = [
    -1, 0, 1, 0.0, -0.0, 1e-9, -1e-9, 5e-324, 1e300, 10**400, -(10**400), math.inf, -math.inf,
    math.nan, -math.nan, True, False, None, "-1", "", [-1], {}, [],
]  # fmt: skip


def test_the_server_and_python_agree_on_each_value(place: Workplace) -> None:
    for value in _VALUES:
        [row] = place.database.execute(
            "SELECT orch.violation(%(json)s) AS value", {"json": json.dumps(value)}
        )
        assert row["value"] == violation(value), value
    [row] = place.database.execute("SELECT orch.violation(NULL) AS value")
    assert row["value"] == violation(None) > 0


def test_the_server_and_python_agree_on_each_trial(place: Workplace) -> None:
    """Also on the list that Optuna stored before version 5, and on what was imported."""
    place.create("hooked:plain", trials=1)
    storage, study_id = PostgresStorage(place.database), place.study.study_id
    numbers = [value for value in _VALUES if isinstance(value, int | float)]
    held: list[dict[str, Any]] = [
        *({"constraints:a": value} for value in _VALUES),
        *({"constraints": [value, -1]} for value in numbers),
        *({"constraints": [-1, value]} for value in numbers),
        {"constraints": []}, {"constraints": None}, {"constraints": [-1]},
        {"constraints": [1], "constraints:a": -1}, {"constraints": [-1], "constraints:a": 1},
        {"constraints:": 1}, {"constraintsa": 1}, {"constraint:a": 1},
    ]  # fmt: skip
    for each in held:
        trial = optuna.trial.create_trial(value=0.5, system_attrs=each)
        storage.create_new_trial(study_id, template_trial=trial)
    able = place.execute("SELECT number FROM orch.able_trials(%(study)s) ORDER BY number")
    ranked = [trial.number for trial in ranking(place.trials(), place.study.spec)]
    assert [row["number"] for row in able] == ranked
    assert 0 < len(ranked) < len(held)


def test_the_server_and_python_agree_where_a_name_of_the_spec_was_never_written(
    place: Workplace,
) -> None:
    place.create("hooked:plain", trials=1, study={"constraints": ["b"]})
    storage, study_id = PostgresStorage(place.database), place.study.study_id
    for attributes in ({"b": -1}, {"b": 1}, {}, {"b": -2}):
        trial = optuna.trial.create_trial(value=0.5, user_attrs=attributes)
        storage.create_new_trial(study_id, template_trial=trial)
    place.execute("DELETE FROM trial_system_attributes WHERE key = 'constraints:b'")
    able = place.execute("SELECT number FROM orch.able_trials(%(study)s) ORDER BY number")
    trials = PostgresStorage(place.database).get_all_trials(study_id)
    ranked = [trial.number for trial in ranking(trials, place.study.spec)]
    assert [row["number"] for row in able] == ranked == [0, 3]


def test_claiming_a_held_trial_again_clears_its_constraints(
    place: Workplace,
) -> None:
    place.create("hooked:plain")
    claims = place.claims()
    trial_id = take(claims)
    assert claims.write(trial_id, Writes(system_attributes={"constraints:a": "1.0"}))[0]
    assert claims.claim().trial_id == trial_id and place.only().constraints == {}
