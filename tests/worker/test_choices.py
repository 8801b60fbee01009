"""Choices of every kind: where Optuna's own storage in a database takes them, so does orch."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import choice_objectives as choices
import optuna
import optuna_dashboard
import pytest
from worker.workplace import Workplace

from orchestrator.errors import StudyFailed, UsageError
from orchestrator.resolve.queue import enqueue
from orchestrator.serve.dashboard import ReadableStorage
from orchestrator.storage.rdb_storage import make_rdb_storage as rdb_storage
from orchestrator.storage.studies import raise_budget

_STARTUP = {"n_startup_trials": 2}  # TPE's own trials at random


@pytest.fixture(autouse=True)
def quiet_optuna() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    optuna.logging.set_verbosity(level)


def does_plain_optuna_take(values: list[Any], sampler: str, folder: Path) -> bool:
    made: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=0)
    if sampler == "tpe":
        made = optuna.samplers.TPESampler(seed=0, n_startup_trials=_STARTUP["n_startup_trials"])
    study = optuna.create_study(storage=f"sqlite:///{folder}/optuna.db", sampler=made)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("c", values)
        return trial.suggest_float("x", 0, 1)

    study.optimize(objective, n_trials=5, catch=(Exception,))
    return all(trial.state.name == "COMPLETE" for trial in study.trials)


def create(place: Workplace, kind: str, sampler: str, trials: int) -> None:
    place.create(
        f"choice_objectives:{kind}",
        trials=trials,
        sampler={"name": sampler, **(_STARTUP if sampler == "tpe" else {})},
        worker={"max_retries": 1, "max_failures": 2},
    )


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("kind", choices.KINDS)
def test_choices_work_where_they_work_in_plain_optuna(
    place: Workplace, tmp_path: Path, kind: str, sampler: str
) -> None:
    create(place, kind, sampler, trials=3)
    if does_plain_optuna_take(choices.KINDS[kind], sampler, tmp_path):
        place.worker().run()
        raise_budget(place.database, place.study, 6)
        place.worker().run()  # another process, which reads what the first has stored
        assert_each_records_its_choice(place, 6)
    else:
        with pytest.raises(StudyFailed, match="2 configurations in a row failed"):
            place.worker().run()
        assert_first_attempts_say_why(place)


def assert_each_records_its_choice(place: Workplace, count: int) -> None:
    """That the choice on record is the one that the objective had, in its retries too."""
    storage = rdb_storage(place.url)
    trials = optuna.load_study(study_name=place.name, storage=storage).trials
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(complete) == count
    assert any("orch:attempt" in trial.user_attrs for trial in complete)
    recorded = [storage.get_trial_param(trial._trial_id, "c") for trial in complete]
    assert recorded == [trial.value for trial in complete]


def assert_first_attempts_say_why(place: Workplace) -> None:
    trials = place.trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL"]
    reasons = [trial.user_attrs["orch:reason"] for trial in trials]
    assert all(reason.startswith("ParameterError: ") for reason in reasons), reasons


def test_a_tuple_choice_under_tpe_is_refused_with_an_explanation(place: Workplace) -> None:
    create(place, "tuples", "tpe", trials=1)
    with pytest.raises(StudyFailed, match=r"the database gives \(1, 2\) back as \[1, 2\]; name"):
        place.worker().run()


def test_brute_force_refuses_lists_as_plain_optuna_does(place: Workplace) -> None:
    place.create(
        "choice_objectives:only_lists", sampler={"name": "bruteforce"}, worker={"max_retries": 1}
    )
    with pytest.raises(StudyFailed, match="BruteForceSampler cannot search lists or dicts"):
        place.worker().run()
    assert len(place.trials()) == 1


@pytest.mark.parametrize("kind", ["tuples", "whole_enums", "booleans_beside_numbers", "not_finite"])
def test_parameters_recorded_by_another_study_can_be_enqueued(place: Workplace, kind: str) -> None:
    create(place, kind, "random", trials=4)
    place.worker().run()
    found = [trial for trial in place.trials() if trial.state.name == "COMPLETE"]
    raise_budget(place.database, place.study, 8)
    enqueue(place.database, place.study, [], [trial.params for trial in found])
    place.worker().run()
    complete = [trial for trial in place.trials() if trial.state.name == "COMPLETE"]
    tried = [(trial.value, trial.params["x"]) for trial in complete]
    assert sorted(tried[4:]) == sorted(tried[:4])


@pytest.mark.parametrize("kind", choices.RETURNED)
def test_the_dashboard_shows_choices_of_every_kind(place: Workplace, kind: str) -> None:
    create(place, kind, "random", trials=3)
    place.worker().run()
    study_id = place.study.study_id
    app = optuna_dashboard.wsgi(ReadableStorage(place.url))
    shown = json.loads(answer(app, f"/api/studies/{study_id}"))
    values = {str(each) for each in choices.KINDS[kind]}
    trials = [trial for trial in shown["trials"] if trial["state"] == "Complete"]
    assert len(trials) == 3
    for trial in trials:
        (c,) = (each for each in trial["params"] if each["name"] == "c")
        assert c["param_external_value"] in values


def answer(app: WSGIApplication, path: str) -> bytes:
    """What a WSGI application sends."""
    environment: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environment)
    return b"".join(app(environment, lambda *_: lambda _: None))


def test_lists_are_read_without_optunas_warning(place: Workplace) -> None:
    create(place, "nested", "random", trials=2)
    place.worker().run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all("c" in trial.params for trial in place.trials())


# What a function suggests as choices, as a float from 0 to 1 and as an integer from 1 to 9.
_WRONG = [
    ({"kind": "c"}, "kind cannot be 'c'; its domain is a, b"),
    ({"x": "abc"}, "x cannot be 'abc'; its domain is 0 to 1"),
    ({"x": "0.5"}, "x cannot be '0.5'"),
    ({"x": True}, "x cannot be True"),
    ({"x": [0.5]}, r"x cannot be \[0.5\]"),
    ({"n": 2.5}, "n cannot be 2.5; its domain is 1 to 9"),
    ({"n": float("nan")}, "n cannot be nan"),
]


@pytest.mark.parametrize(("wrong", "reason"), _WRONG)
def test_an_enqueued_value_of_the_wrong_kind_is_one_failed_attempt(
    place: Workplace, wrong: dict[str, Any], reason: str
) -> None:
    place.create("choice_objectives:kinds", worker={"max_retries": 3, "max_failures": 5})
    enqueue(place.database, place.study, [wrong])
    place.worker().run()
    failed, complete = place.trials()
    assert failed.state.name == "FAIL" and complete.state.name == "COMPLETE"
    assert re.search(f"ParameterError: enqueued {reason}", failed.user_attrs["orch:reason"])


@pytest.mark.parametrize(("wrong", "reason"), _WRONG)
def test_a_value_of_the_wrong_kind_is_refused_where_a_trial_has_shown_the_domain(
    place: Workplace, wrong: dict[str, Any], reason: str
) -> None:
    place.create("choice_objectives:kinds")
    place.worker().run()
    with pytest.raises(UsageError, match=reason):
        enqueue(place.database, place.study, [{"x": 0.5}, wrong])
    assert len(place.trials()) == 1


def test_enqueued_numbers_outside_the_range_are_used_as_in_plain_optuna(place: Workplace) -> None:
    place.create("choice_objectives:kinds", trials=2)
    enqueue(place.database, place.study, [{"x": 7, "n": 12.0, "kind": "b"}])
    place.worker().run()
    assert place.trials()[0].params == {"x": 7.0, "n": 12, "kind": "b"}
    enqueue(place.database, place.study, [{"x": 8}])
