"""What a trial logs beside its value: where it goes, and what stays of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
import pytest
from fault_site import wait_until
from optuna.trial import TrialState
from worker.workplace import SetAfterStep, SetFunction, StoreStudy, Workplace, take

import orchestrator as orch
from orchestrator.errors import PatienceExceeded, StudyFailed
from orchestrator.storage.claims import Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.studies import delete
from orchestrator.worker.trial import Trial
from orchestrator.worker.worker import Worker, WorkerOptions

Logged = dict[int, dict[int, dict[str, float]]]
NASTY = ["", "val_loss", "<b>&", "=1+1", "../x", "a\nb", "ключ", "x" * 512]


def logged(place: Workplace) -> Logged:
    """By trial's number and step."""
    rows = place.execute(
        "SELECT number, step, names, numbers FROM orch.logged JOIN trials USING (trial_id) "
        "WHERE study_id = %(study)s ORDER BY number, step"
    )
    found: Logged = {}
    for row in rows:
        steps = found.setdefault(row["number"], {})
        steps[row["step"]] = dict(zip(row["names"], row["numbers"], strict=True))
    return found


@pytest.fixture
def run(place: Workplace, function: SetFunction) -> Callable[..., Logged]:
    """Runs a function as the only trial of a study; returns what it has logged."""

    def run_function(act: Callable[[Trial], object], **sections: Any) -> Logged:
        function(act)
        place.create("hooked:plain", **sections)
        place.worker().run()
        return logged(place)

    return run_function


def test_every_name_and_number_is_stored_as_it_was_logged(
    place: Workplace, run: Callable[..., Logged]
) -> None:
    numbers: list[Any] = [0.1, 0, -1e300, math.inf, -math.inf, math.nan, np.float32(0.5), True]
    given = dict(zip(NASTY, numbers, strict=True))

    def log(trial: Trial) -> float:
        orch.log(trial, given, 1)
        trial.report(0.5, 1)
        return 0.5

    found = run(log)[0][1]
    assert list(found) == NASTY
    assert str(list(found.values())) == str([float(number) for number in numbers])


def test_an_array_is_logged_element_by_element_and_a_mapping_by_its_keys(
    run: Callable[..., Logged], caplog: pytest.LogCaptureFixture
) -> None:
    def log(trial: Trial) -> float:
        logs: dict[str, Any] = {
            "f1": np.array([0.25, 0.5]),
            "one": np.array([2.0]),
            "by": {"a": 1, "b": [2, 3]},
        }
        trial.log(logs | {"matrix": np.zeros((50, 50))}, 1)
        return 0.5

    assert run(log) == {
        0: {1: {"f1/0": 0.25, "f1/1": 0.5, "one": 2, "by/a": 1, "by/b/0": 2, "by/b/1": 3}}
    }
    assert "'matrix' is not logged: it has 2500 elements" in caplog.text


def test_a_name_that_cannot_be_stored_is_made_storable(run: Callable[..., Logged]) -> None:
    found = run(lambda trial: trial.log({"a\0b": 1, "y" * 600: 2, 3: 3}, 1) or 0.5)
    assert found == {0: {1: {"a\ufffdb": 1, "y" * 512: 2, "3": 3}}}


def test_a_later_log_of_a_name_overwrites_it_and_keeps_the_others(
    run: Callable[..., Logged],
) -> None:
    def log(trial: Trial) -> float:
        trial.log({"loss": 3, "lr": 0.1}, 1)
        trial.report(0.5, 1)
        trial.report(0.5, 2)
        trial.log({"accuracy": 0.9}, 1)
        trial.log({"loss": 2}, 1)
        return 0.5

    assert run(log) == {0: {1: {"loss": 2, "lr": 0.1, "accuracy": 0.9}}}


@pytest.mark.parametrize(
    ("metrics", "step", "reason"),
    [
        ({"loss": "low"}, 1, "the value logged as 'loss' is 'low'; it must be a number"),
        ({"loss": None}, 1, "the value logged as 'loss' is None; it must be a number"),
        ([0.5], 1, "supposed to be a mapping of names to numbers"),
        ({"loss": 1}, -1, "must be non-negative"),
        ({"loss": 1}, 2**31, "step must be at most 2147483647"),
        ({"loss": 1}, "one", "supposed to be an int"),
    ],
)
def test_a_logged_value_that_is_not_a_number_fails_the_attempt_and_is_named(
    place: Workplace, run: Callable[..., Logged], metrics: Any, step: Any, reason: str
) -> None:
    with pytest.raises(StudyFailed, match=re.escape(reason)):
        run(lambda trial: trial.log(metrics, step))
    assert place.only().state == TrialState.FAIL and logged(place) == {}


def test_under_plain_optuna_logging_does_nothing() -> None:
    def objective(trial: optuna.Trial) -> float:
        orch.log(trial, {"loss": 0.5}, 1)
        return trial.suggest_float("x", 0, 1)

    study = optuna.create_study()
    study.optimize(objective, n_trials=1)
    orch.log(optuna.trial.FixedTrial({"x": 0.5}), {"loss": 0.5}, 1)
    assert study.trials[0].user_attrs == {} == study.trials[0].system_attrs


def test_a_custom_objective_class_can_log(place: Workplace, after_step: SetAfterStep) -> None:
    def act(trial: Trial, step: int) -> None:
        trial.log({"twice": 2 * step}, step)

    after_step(act)
    place.create()
    place.worker().run()
    assert logged(place) == {0: {step: {"twice": 2 * step} for step in (1, 2, 3, 4)}}


def test_logs_travel_with_their_steps_value(
    place: Workplace, function: SetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the pruner waits for a value, its logs cost no round trip of their own."""
    sent: list[Writes] = []
    write = Claims.write

    def write_and_note(claims: Claims, trial_id: int, writes: Writes, **options: Any) -> Any:
        sent.append(writes.copy())
        return write(claims, trial_id, writes, **options)

    def run(trial: Trial) -> float:
        trial.suggest_float("x", 0, 1)
        for step in (1, 3, 9):
            trial.log({"loss": 1 / step}, step)
            trial.report(0.5, step)
            trial.should_prune()
        return 0.5

    monkeypatch.setattr(Claims, "write", write_and_note)
    function(run)
    place.create("hooked:plain", pruner={"name": "hyperband", "max_resource": 9},
                 worker={"heartbeat_seconds": 30})  # fmt: skip
    place.worker().run()
    # Logs may also travel with the parameter, if its message leaves after the first log.
    assert all(writes.values or writes.params for writes in sent if writes.logs)
    assert sorted(step for writes in sent for step in writes.values) == [1, 3, 9]
    assert sorted(step for writes in sent for step, _ in writes.logs) == [1, 3, 9]


def test_logs_without_a_report_arrive_with_a_heartbeat(
    place: Workplace, function: SetFunction
) -> None:
    seen: list[Logged] = []

    def run(trial: Trial) -> float:
        trial.log({"loss": 0.5}, 7)
        wait_until(lambda: logged(place) != {})
        seen.append(logged(place))
        return 0.5

    function(run)
    place.create("hooked:plain")
    place.worker().run()
    assert seen == [{0: {7: {"loss": 0.5}}}]


# Leases, retries, outages


def test_a_worker_without_the_lease_cannot_log(place: Workplace) -> None:
    place.create()
    holder, other = place.claims(), place.claims()
    trial = take(holder)
    logs = Writes(logs={(1, "loss"): 0.5})
    assert other.write(trial, logs) == (False, None)
    assert logged(place) == {}
    assert holder.write(trial, logs)[0]
    assert logged(place) == {0: {1: {"loss": 0.5}}}
    place.execute(
        "UPDATE orch.lease SET worker_id = %(other)s WHERE trial_id = %(trial)s",
        other=str(other.worker_id), trial=trial,
    )  # fmt: skip
    assert holder.write(trial, Writes(logs={(1, "loss"): 9, (2, "loss"): 9})) == (False, None)
    assert logged(place) == {0: {1: {"loss": 0.5}}}


def test_a_retry_keeps_the_logs_up_to_its_checkpoint(
    place: Workplace, after_step: SetAfterStep
) -> None:
    def act(trial: Trial, step: int) -> None:
        trial.log({"loss": 1 / step, "attempt": 1 + (trial.number == 1)}, step)
        if trial.number == 0 and step == 3:
            place.wait_until_saved(2)
            raise RuntimeError("on purpose")

    after_step(act)
    place.create(worker={"max_retries": 1, "checkpoint_seconds": 0})
    place.worker().run()
    first, retry = place.trials()
    assert (first.state, retry.state) == (TrialState.FAIL, TrialState.COMPLETE)
    found = logged(place)
    assert {step: logs["attempt"] for step, logs in found[0].items()} == {1: 1, 2: 1, 3: 1}
    assert {step: logs["attempt"] for step, logs in found[1].items()} == {1: 1, 2: 1, 3: 2, 4: 2}
    assert [logs["loss"] for logs in found[1].values()] == [1, 1 / 2, 1 / 3, 1 / 4]


def test_a_retry_from_the_start_discards_earlier_logs(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: Trial) -> float:
        trial.log({"attempt": trial.number}, 1)
        trial.report(0.5, 1)
        if trial.number == 0:
            trial.log({"attempt": trial.number}, 2)
            raise RuntimeError("on purpose")
        return 0.5

    function(run)
    place.create("hooked:plain", worker={"max_retries": 1})
    place.worker().run()
    assert logged(place) == {0: {1: {"attempt": 0}, 2: {"attempt": 0}}, 1: {1: {"attempt": 1}}}


def test_a_released_trial_keeps_the_logs_up_to_its_checkpoint(
    place: Workplace, after_step: SetAfterStep
) -> None:
    def act(trial: Trial, step: int) -> None:
        trial.log({"step": step}, step)
        trial.log({"late": step}, step + 1)
        if step == 2:
            leaving.leave()

    after_step(act)
    place.create(worker={"checkpoint_seconds": 1000})
    leaving = place.worker()
    leaving.run()
    assert logged(place) == {0: {1: {"step": 1}, 2: {"late": 1, "step": 2}}}
    place.worker().run()
    assert [logs.get("step") for logs in logged(place)[0].values()] == [1, 2, 3, 4, None]


def test_logs_during_an_outage_arrive_when_the_database_answers(
    place: Workplace, after_step: SetAfterStep
) -> None:
    def act(trial: Trial, step: int) -> None:
        trial.log({"step": step}, step)
        if step == 1:
            place.own.goes_away()
        if step == 4:
            place.own.comes_back()

    after_step(act)
    place.create()
    place.worker().run()
    assert logged(place) == {0: {step: {"step": step} for step in (1, 2, 3, 4)}}


def test_undelivered_logs_are_saved_to_disk_with_their_trial(
    place: Workplace, after_step: SetAfterStep
) -> None:
    def act(trial: Trial, step: int) -> None:
        trial.log({"step": step, "none": math.nan}, step)
        if step == 2:
            place.wait_until_arrived(trial)
            place.own.goes_away()
            trial.log({"late": step}, step)
            wait_until(lambda: trial._reporter.outage_seconds > 0.3)

    after_step(act)
    place.create(worker={"storage_patience": 0.3})
    mine = uuid4()
    with pytest.raises(PatienceExceeded):
        place.worker(mine).run()
    place.own.comes_back()
    assert "late" not in logged(place)[0].get(2, {})
    after_step(lambda trial, step: trial.log({"step": step}, step))
    place.worker(mine).run()
    assert place.only().user_attrs["orch:restarts"] == [[2, 0]]
    found = logged(place)[0]
    assert [logs["step"] for logs in found.values()] == [1, 2, 3, 4]
    assert math.isnan(found[1]["none"]) and found[2]["late"] == 2


def test_logs_lost_in_a_crash_are_sent_again(place: Workplace, after_step: SetAfterStep) -> None:
    def act(trial: Trial, step: int) -> None:
        trial.log({"step": step}, step)
        if step == 3:
            place.wait_until_arrived(trial)
            place.execute("DELETE FROM orch.logged")
            place.own.goes_away()
            place.own.comes_back()

    after_step(act)
    place.create()
    place.worker().run()
    assert logged(place) == {0: {step: {"step": step} for step in (1, 2, 3, 4)}}


def test_logs_are_deleted_with_their_study(database: Database, store_study: StoreStudy) -> None:
    study = store_study("user_objectives:logs", trials=2)
    Worker(database.url, study.name, WorkerOptions(uuid4())).run()
    count = "SELECT count(*) AS n FROM orch.logged JOIN trials USING (trial_id)"
    mine = f"{count} WHERE study_id = %(id)s"
    assert database.execute(mine, {"id": study.study_id}) == [{"n": 6}]
    delete(database, study)
    assert database.execute("SELECT count(*) AS n FROM orch.logged "
                            "WHERE NOT EXISTS (SELECT FROM trials t WHERE t.trial_id = "
                            "orch.logged.trial_id)") == [{"n": 0}]  # fmt: skip
