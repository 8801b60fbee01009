"""Priors and older studies through a real database: what the first trials try, and what is copied."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from worker.workplace import OwnDatabase, SetFunction, Workplace

from orchestrator.errors import UsageError
from orchestrator.report.listing import study_page
from orchestrator.resolve.resolve import create, create_or_resume
from orchestrator.spec.model import StudySpec
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy, delete, open_study, read_trials

RANGE = {"float": [-10.0, 10.0]}


def _spec(place: Workplace, name: str, **sections: Any) -> StudySpec:
    section = {
        "name": f"{place.name}-{name}", "objective": "hooked:plain", "trials": 6,
        "direction": "minimize", **sections.pop("study", {}),
    }  # fmt: skip
    document = {"sampler": {"name": "random"}, "pruner": {"name": "none"}, **sections}
    return StudySpec.parse({"study": section, **document})


def _run(place: Workplace, study: StoredStudy) -> list[optuna.trial.FrozenTrial]:
    here = Workplace(place.own, study.name)
    here.worker().run()
    return read_trials(place.database, study)


@pytest.fixture
def older(place: Workplace, function: SetFunction) -> StoredStudy:
    """Six trials of a function with the best at x = 3."""

    def bowl(trial: optuna.Trial) -> float:
        return (trial.suggest_float("x", -10, 10) - 3) ** 2

    function(bowl)
    stored = create(place.database, _spec(place, "older", space={"x": {**RANGE, "prior": 3.5}}))
    _run(place, stored)
    return stored


@pytest.mark.parametrize("sampler", ["random", "tpe", "mixed-gp", "qmc", "bruteforce"])
def test_the_first_trial_of_every_sampler_tries_the_prior(
    place: Workplace, function: SetFunction, sampler: str
) -> None:
    def noted(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", ["flat", "deep"])
        return trial.suggest_int("units", 8, 64) + (kind == "deep")

    function(noted)
    space = {
        "units": {"int": [8, 64], "step": 8, "prior": 48},
        "kind": {"choice": ["flat", "deep"], "prior": "deep"},
    }
    stored = create(place.database, _spec(place, "new", sampler={"name": sampler}, space=space))
    tried = [each.params for each in _run(place, stored)]
    assert tried[0] == {"units": 48, "kind": "deep"}
    assert any(each != tried[0] for each in tried[1:])


@pytest.mark.parametrize("sampler", ["random", "mixed-gp"])
def test_the_best_of_the_older_study_is_tried_after_the_prior(
    place: Workplace, older: StoredStudy, sampler: str
) -> None:
    best = min(read_trials(place.database, older), key=lambda each: each.values[0])
    spec = _spec(
        place, "new", study={"warm_start": older.name}, sampler={"name": sampler},
        space={"x": {**RANGE, "prior": -1.0}},
    )  # fmt: skip
    tried = [each.params["x"] for each in _run(place, create(place.database, spec))]
    assert tried[:2] == pytest.approx([-1.0, best.params["x"]])


def test_a_value_that_the_new_domain_does_not_have_is_drawn(
    place: Workplace, older: StoredStudy
) -> None:
    spec = _spec(
        place, "new", study={"warm_start": older.name}, space={"x": {"float": [-10.0, -5.0]}}
    )
    tried = [each.params["x"] for each in _run(place, create(place.database, spec))]
    assert max(tried) <= -5


def test_a_study_keeps_what_it_copied_when_the_older_one_is_deleted(
    place: Workplace, older: StoredStudy
) -> None:
    best = min(read_trials(place.database, older), key=lambda each: each.values[0])
    spec = _spec(place, "new", study={"warm_start": older.name}, sampler={"name": "mixed-gp"})
    stored = create(place.database, spec)
    delete(place.database, older)
    assert _run(place, stored)[0].params == pytest.approx(best.params)
    page = study_page(place.database, stored)
    assert f'warm_start = ["{older.name}"]' in page
    assert f"# starts warm with 6 trials of {older.name}" in page
    resumed = create_or_resume(place.database, spec).study
    assert resumed.study_id == stored.study_id


def test_a_study_cannot_take_along_others_later(place: Workplace, older: StoredStudy) -> None:
    create(place.database, _spec(place, "new"))
    changed = _spec(place, "new", study={"warm_start": older.name})
    with pytest.raises(UsageError, match=r"study\.warm_start: \[\] -> "):
        create_or_resume(place.database, changed, allow_mismatch=True, take_new=True)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"study": {"warm_start": "oldre"}}, "names an unknown study 'oldre'"),
        ({"study": {"warm_start": "{name}-new"}}, "names the study itself"),
        ({"study": {"direction": "maximize"}}, "is to minimize, and this study to maximize"),
        ({"study": {"objective": "quadratic"}, "space": {"x": 3.0}}, "shares no parameter"),
        (
            {"study": {"objective": "quadratic"}, "space": {"x": {"float": [200.0, 300.0]}}},
            "lies in this study's domains of x",
        ),
        ({"sampler": {"name": "grid"}, "space": {"x": {"choice": [1.0, 2.0]}}}, "grid has a list"),
        ({"study": {"metric": ["a", "b"], "direction": ["minimize"] * 2}}, "by one metric"),
    ],
)
def test_an_older_study_that_cannot_inform_this_one_is_refused(
    place: Workplace, older: StoredStudy, sections: dict[str, Any], words: str
) -> None:
    section = {"warm_start": older.name, **sections.get("study", {})}
    section["warm_start"] = section["warm_start"].replace("{name}", place.name)
    with pytest.raises(UsageError, match=words) as refused:
        create(place.database, _spec(place, "new", **{**sections, "study": section}))
    assert "\n" not in str(refused.value)
    assert [row["name"] for row in place.database.rows("list_studies")] == [older.name]


def test_an_older_study_without_a_finished_trial_is_refused(place: Workplace) -> None:
    empty = create(place.database, _spec(place, "empty"))
    with pytest.raises(UsageError, match="has no finished trial yet"):
        create(place.database, _spec(place, "new", study={"warm_start": empty.name}))


def test_a_plain_optuna_study_may_be_named(place: Workplace, own_database: OwnDatabase) -> None:
    plain = optuna.create_study(
        storage=PostgresStorage(own_database.database), study_name=f"{place.name}-plain"
    )
    plain.optimize(lambda trial: trial.suggest_float("x", -10, 10) ** 2, n_trials=3)
    stored = create(place.database, _spec(place, "new", study={"warm_start": plain.study_name}))
    assert open_study(place.database, stored.name).spec.study.warm_start == (plain.study_name,)
