"""A worker in this process: what becomes of a trial, however its training or its database ends."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import hooked
import numpy as np
import optuna
import pytest
from fault_site import wait_until
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from worker.workplace import SetAfterStep, SetFunction, Workplace, take

from orchestrator.errors import PatienceExceeded, StorageError, StudyFailed
from orchestrator.report.progress import ProgressReader
from orchestrator.report.pruning import EpochCounter
from orchestrator.report.reader import summarise
from orchestrator.storage import worker_storage
from orchestrator.storage.claims import Claim, Claims
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.schema import ORCH_VERSION
from orchestrator.storage.studies import delete, open_study, stop
from orchestrator.storage.trial_cache import Position
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.worker import worker as worker_module
from orchestrator.worker.checkpoints import saved_files
from orchestrator.worker.endings import abandon
from orchestrator.worker.seeds import derive
from orchestrator.worker.trial import Trial

Act = Callable[[Any, int], None]


# How a trial ends


def test_a_trial_is_recorded_with_its_values_and_its_worker(place: Workplace) -> None:
    place.create(trials=2)
    worker = place.worker(threads=3, timeout=600)
    began = time.monotonic()
    worker.run()
    took = time.monotonic() - began
    seed = place.study.spec.training.seed
    for trial in place.trials():
        x = trial.params["x"]
        assert (trial.state, trial.value) == (TrialState.COMPLETE, x)
        assert trial.intermediate_values == {step: x + step for step in range(1, 5)}
        assert trial.user_attrs["orch:worker"] == worker.name
        assert trial.user_attrs["orch:threads"] == 3
        assert trial.user_attrs["orch:seed"] == derive(seed, "training", trial.number)
        assert 0 <= trial.user_attrs["orch:seconds"] < took
        assert "orch:restarts" not in trial.user_attrs and "orch:reason" not in trial.user_attrs
    [row] = place.execute("SELECT trials, left_at FROM orch.worker WHERE study_id = %(study)s")
    assert row["trials"] == 2 and row["left_at"] is not None


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("forty-two", "TypeError: the objective returned 'forty-two'; it must return a number"),
        (ValueError("no such\n layer"), "ValueError: no such layer (test_worker.py, line {line})"),
    ],
)
def test_an_invalid_result_is_a_failed_attempt_with_its_reason(
    place: Workplace, function: SetFunction, returned: object, reason: str
) -> None:
    def run(trial: optuna.Trial) -> object:
        trial.set_user_attr("noted", 1)
        if isinstance(returned, Exception):
            raise returned
        return returned

    function(run)
    place.create("hooked:plain")
    with pytest.raises(StudyFailed, match=r"failed: 1 configuration failed: "):
        place.worker().run()
    trial = place.only()
    assert trial.state == TrialState.FAIL
    raised = run.__code__.co_firstlineno + 3
    assert trial.user_attrs["orch:reason"] == reason.format(line=raised)
    log = trial.user_attrs["orch:log"].splitlines()
    assert 2 <= len(log) <= 20 and any(line.startswith('  File "') for line in log)
    assert log[-1] == (" layer" if isinstance(returned, Exception) else reason)
    assert trial.user_attrs["noted"] == 1, "what it wrote before is there"


def test_the_steps_of_a_function_are_learned_from_its_trials(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        for step in range(3):
            trial.report(1.0, step)
            if trial.number == 1:
                raise optuna.TrialPruned
        return 1.0

    function(run)
    place.create("hooked:plain", trials=3)
    place.worker().run()
    database, study = place.database, open_study(place.database, place.name)
    epochs = summarise(database, study).epochs
    assert (epochs.trained, epochs.without_pruning) == (7, 9)
    reader = ProgressReader(database, study, EpochCounter(study))
    assert "saved" not in reader.headline(reader.read()), "how many a trial has, is not known"


def test_a_sampler_that_raises_is_a_failed_attempt(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: Any) -> None:
        raise ValueError("no such sampler")

    monkeypatch.setattr(RandomSampler, "infer_relative_search_space", raises)
    place.create()
    with pytest.raises(StudyFailed, match="no such sampler"):
        place.worker().run()
    trial = place.only()
    assert trial.user_attrs["orch:reason"].startswith("ValueError: no such sampler")
    assert trial.user_attrs["orch:seconds"] >= 0


def test_each_finished_trial_logs_a_line_with_its_values_and_pruning_reason(
    place: Workplace, function: SetFunction, caplog: pytest.LogCaptureFixture
) -> None:
    def run(trial: optuna.Trial) -> list[float]:
        if trial.number == 1:
            raise optuna.TrialPruned("enough")
        return [0.5, 1 / 3]

    function(run)
    caplog.set_level(logging.INFO, "orch")
    metrics = {"metric": ["a", "b"], "direction": ["minimize", "minimize"]}
    place.create("hooked:plain", trials=2, study=metrics)
    place.worker().run()
    lines = [record.getMessage() for record in caplog.records if record.name == "orch"]
    assert lines == ["trial 0 COMPLETE 0.5 0.33333", "trial 1 PRUNED no value (enough)"]


def test_the_stored_files_of_a_trial_are_removed_at_its_end(
    place: Workplace, after_step: SetAfterStep, tmp_path: Path
) -> None:
    def act(trial: Trial, step: int) -> None:
        if step == 3:
            place.wait_until_saved(2)
            assert list(tmp_path.iterdir())

    after_step(act)
    place.create(worker={"checkpoint_seconds": 0, "artifacts": str(tmp_path)})
    place.worker().run()
    assert place.only().state == TrialState.COMPLETE and not list(tmp_path.iterdir())


def test_pruned_trials_keep_their_last_value_and_the_reason(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> object:
        for step, value in [[], [(1, 0.5), (2, 0.25)], [(1, float("nan"))], [(0, 1.0)]][
            trial.number
        ]:
            trial.report(value, step)
        if trial.number == 3:
            return float("nan")
        raise optuna.TrialPruned("enough" if trial.number == 1 else "")

    function(run)
    place.create("hooked:plain", trials=4)
    place.worker().run()
    trials = place.trials()
    assert [trial.state for trial in trials] == [TrialState.PRUNED] * 4
    assert [trial.value for trial in trials] == [None, 0.25, None, None]
    assert [trial.user_attrs.get("orch:reason") for trial in trials] == [
        None, "enough", None, "the objective returned nan",
    ]  # fmt: skip


def test_with_several_metrics_nothing_is_pruned(place: Workplace, function: SetFunction) -> None:
    def run(trial: optuna.Trial) -> object:
        trial.report(1.0, 1)
        assert not trial.should_prune()
        if trial.number == 1:
            raise optuna.TrialPruned
        return (1, 2.0)

    function(run)
    place.create(
        "hooked:plain", trials=2, study={"metric": ["a", "b"], "direction": ["minimize"] * 2}
    )
    place.worker().run()
    first, second = place.trials()
    assert first.values == [1.0, 2.0]
    assert second.state == TrialState.PRUNED and second.values is None


def test_a_step_is_reported_once_and_is_not_negative(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        trial.report(1.0, 1)
        trial.report(2.0, 1)
        with pytest.raises(ValueError, match="`step=-1` must be non-negative"):
            trial.report(1.0, -1)
        return 0.0

    function(run)
    place.create("hooked:plain")
    place.worker().run()
    assert place.only().intermediate_values == {1: 1.0}


def test_the_specs_domain_overrides_the_functions(place: Workplace, function: SetFunction) -> None:
    def run(trial: optuna.Trial) -> float:
        free = trial.suggest_float("free", 0, 1)
        assert trial.suggest_float("free", 0, 1) == free
        return trial.suggest_float("x", 0, 1)

    function(run)
    place.create("hooked:plain", space={"x": {"float": [5.0, 6.0]}})
    place.worker().run()
    assert 5 <= place.only().params["x"] <= 6 and 0 <= place.only().params["free"] <= 1


def test_the_pruner_ends_a_bad_trial(place: Workplace, function: SetFunction) -> None:
    def run(trial: optuna.Trial) -> float:
        for step in range(1, 5):
            trial.report(trial.number, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(trial.number)

    function(run)
    place.create(
        "hooked:plain", trials=6, pruner={"name": "median", "n_startup_trials": 2},
    )  # fmt: skip
    place.worker().run()
    assert [trial.state for trial in place.trials()][2:] == [TrialState.PRUNED] * 4


def test_others_trials_are_seen_when_a_value_is_decided_about(
    place: Workplace, function: SetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler and the pruner find it without a question of their own."""
    monkeypatch.setattr(worker_storage, "_FRESH_SECONDS", 1000.0)
    seen: list[list[TrialState]] = []

    def run(trial: optuna.Trial) -> float:
        other = place.claims()
        other.finish(take(other), "COMPLETE", [1.0], {})
        for step in (1, 2):
            seen.append([each.state for each in trial.study.get_trials(deepcopy=False)])
            trial.report(0.5, step)
        return 0.5

    function(run)
    place.create("hooked:plain", trials=2, pruner={"name": "median", "n_startup_trials": 1})
    place.worker().run()
    assert seen == [[TrialState.RUNNING], [TrialState.RUNNING, TrialState.COMPLETE]]


def test_a_rung_is_stored_with_the_value_that_reaches_it(
    place: Workplace, function: SetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others find it when the pruner is asked, not a question later."""
    noted: list[dict[str, Any]] = []

    def run(trial: optuna.Trial) -> float:
        for step in (1, 2, 3):
            trial.report(0.5, step)
            noted.append(place.only().system_attrs)
            assert not trial.should_prune()
        return 0.5

    function(run)
    place.create("hooked:plain", pruner={"name": "asha", "min_resource": 1, "reduction_factor": 3})
    place.worker().run()
    first = {"completed_rung_0": 0.5}
    assert noted == [first, first, {**first, "completed_rung_1": 0.5}]


def test_a_workers_cache_of_ended_trials_equals_the_database(
    place: Workplace, function: SetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what it wrote itself, and is told the rest where somebody else wrote to a trial."""
    monkeypatch.setattr(worker_storage, "_FRESH_SECONDS", 1000.0)
    known: list[optuna.trial.FrozenTrial] = []

    def run(trial: optuna.Trial) -> float:
        known[:] = trial.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
        trial.suggest_float("x", 1e-3, 1.0, log=True)
        trial.suggest_int("n", 0, 8, step=2)
        trial.suggest_categorical("c", [None, "a", 1])
        trial.set_user_attr("pair", (1, 2.0))
        trial.storage.set_trial_system_attr(trial._trial_id, "seen", {"by": [None, True]})
        for step, value in enumerate((0.5, float("inf"), float("nan")), 1):
            trial.report(value, step)
        if trial.number == 1:
            PostgresStorage(place.database).set_trial_user_attr(trial._trial_id, "note", "!")
        if trial.number == 2:
            raise optuna.TrialPruned("enough")
        return float("inf") if trial.number == 3 else 0.5

    function(run)
    place.create("hooked:plain", trials=5)
    place.worker().run()
    recorded = place.trials()[:4]
    assert recorded[1].user_attrs["note"] == "!"
    assert list(map(_facts, known)) == list(map(_facts, recorded))


def _facts(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    # A NaN is not equal to itself.
    return {**vars(trial), "intermediate_values": repr(trial.intermediate_values)}


def test_the_sampler_sees_the_trials_at_the_time_of_its_draw(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        seen.append(len(trial.study._get_trials(deepcopy=False, use_cache=True)))
        return 0.5

    seen: list[int] = []
    function(run)
    place.create("hooked:plain", trials=2)
    place.worker().run()
    assert seen == [1, 2]


# Leaving, and going on


def test_stopped_worker_releases_its_trial_and_the_next_worker_resumes_it(
    place: Workplace, after_step: SetAfterStep
) -> None:
    def act(trial: Trial, step: int) -> None:
        if step == 2:
            trial.storage.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.5)
            trial.seconds_before = 1000.0
            leaving.leave()
        if step == 3:
            assert trial.frozen.system_attrs == {"completed_rung_0": 0.5}
            assert trial.values == {each: trial.params["x"] + each for each in (1, 2, 3)}
            leaving_too.leave()

    place.create(worker={"checkpoint_seconds": 1000})
    leaving, leaving_too = place.worker(), place.worker()
    after_step(act)
    leaving.run()
    assert place.only().state == TrialState.WAITING
    assert list(place.only().intermediate_values) == [1, 2]
    leaving_too.run()
    place.worker().run()
    trial = place.only()
    assert trial.state == TrialState.COMPLETE and "orch:attempt" not in trial.user_attrs
    assert trial.user_attrs["orch:restarts"] == [[2, 0], [3, 0]]
    assert 1000 < trial.user_attrs["orch:seconds"] < 1060, "with what it took before"
    assert hooked.Hooked.trained == [(0, step) for step in (1, 2, 3, 4)]
    assert place.execute("SELECT * FROM orch.checkpoint") == []
    assert place.execute("SELECT * FROM orch.artifact") == []


def test_worker_stopped_at_the_last_step_finishes_the_trial_with_all_its_writes(
    place: Workplace, after_step: SetAfterStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.create(trials=2)
    leaving = place.worker()
    after_step(lambda trial, step: leaving.leave() if step == 4 else None)
    leaving.run()
    [trial] = place.trials()
    assert trial.state == TrialState.COMPLETE and list(trial.params) == ["x"]
    assert list(trial.intermediate_values) == [1, 2, 3, 4]


def test_stopped_worker_interrupts_a_function_at_its_report_and_the_next_restarts_it(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.report(x, 1)
        leaving.leave()
        trial.report(x, 2)
        return x

    function(run)
    place.create("hooked:plain")
    leaving = place.worker()
    leaving.run()
    waiting = place.only()
    assert waiting.state == TrialState.WAITING and waiting.intermediate_values == {}
    function(lambda trial: trial.suggest_float("x", 0, 1))
    place.worker().run()
    assert place.only().value == waiting.params["x"]


def test_worker_stopped_at_a_functions_last_step_finishes_the_trial(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: Trial) -> float:
        trial.steps = 1
        leaving.leave()
        trial.report(0.5, 1)
        return 0.5

    function(run)
    place.create("hooked:plain")
    leaving = place.worker()
    leaving.run()
    assert place.only().state == TrialState.COMPLETE


def test_stopped_worker_does_not_wait_for_an_unreachable_database(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when it joins nor when it claims; else it would wait for the whole patience."""
    place.create()
    early, late = place.worker(), place.worker()
    claim = Claims.claim

    def claim_without(claims: Claims, since: Position | None) -> Claim:
        place.own.goes_away()
        late.leave()
        return claim(claims, since)

    monkeypatch.setattr(Claims, "claim", claim_without)
    with pytest.raises(PatienceExceeded):
        late.run()
    early.leave()
    with pytest.raises(PatienceExceeded):
        early.run()


def test_stopped_worker_releases_the_next_trial_that_it_already_claimed(
    place: Workplace, after_step: SetAfterStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.create(trials=2)
    leaving = place.worker()
    finish = Claims.finish_and_claim

    def finish_then_leave(*arguments: Any) -> Claim | None:
        claim = finish(*arguments)
        leaving.leave()
        return claim

    monkeypatch.setattr(Claims, "finish_and_claim", finish_then_leave)
    leaving.run()
    assert [trial.state for trial in place.trials()] == [TrialState.COMPLETE, TrialState.WAITING]


def test_a_worker_has_one_connection_and_none_while_idle(
    place: Workplace, after_step: SetAfterStep
) -> None:
    others = (
        "SELECT count(*) AS n FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"  # the server's own vacuum comes and goes
    )

    def connections() -> int:
        return int(place.execute(others)[0]["n"])

    seen: list[int] = []

    def act(trial: Trial, step: int) -> None:
        if step > 1:
            place.wait_until_saved(step - 1)  # the reporter and the checkpoints are at work, too
        seen.append(connections())

    after_step(act)
    place.create()
    staying = place.worker(stay=True)
    thread = threading.Thread(target=staying.run)
    thread.start()
    wait_until(lambda: bool(place.trials()) and place.only().state.is_finished())
    wait_until(lambda: connections() == 0)
    staying.leave()
    thread.join(30)
    assert not thread.is_alive() and seen == [1] * 4


def test_a_worker_past_its_time_limit_claims_no_trial(place: Workplace) -> None:
    place.create()
    place.worker(timeout=0).run()
    assert place.trials() == []


@pytest.mark.parametrize("trials", [1, 2])
def test_a_staying_worker_waits_for_more_budget_or_time(
    place: Workplace, after_step: SetAfterStep, trials: int
) -> None:
    late = "UPDATE orch.study SET opened_at = opened_at - interval '2 hours'"
    after_step(lambda trial, step: place.execute(late) if step == 4 else None)
    place.create(trials=trials, study={"timeout": "1h"})
    staying = place.worker(stay=True)
    thread = threading.Thread(target=staying.run)
    thread.start()
    while not (place.trials() and place.trials()[0].state.is_finished()):
        thread.join(0.05)
    thread.join(0.5)
    assert thread.is_alive() and len(place.trials()) == 1
    staying.leave()
    thread.join(30)
    assert not thread.is_alive()


def test_workers_leave_a_stopped_study(place: Workplace, after_step: SetAfterStep) -> None:
    place.create(trials=5)
    after_step(lambda trial, step: stop(place.database, place.study))
    place.worker().run()
    assert [trial.state for trial in place.trials()] == [TrialState.COMPLETE]


def test_a_worker_leaves_when_the_schema_version_differs(
    place: Workplace, after_step: SetAfterStep
) -> None:
    place.create(trials=2)
    after_step(lambda trial, step: place.execute("UPDATE orch.schema_version SET version = 99"))
    try:
        with pytest.raises(StorageError, match="is now of another orch version"):
            place.worker().run()
    finally:
        place.execute("UPDATE orch.schema_version SET version = %(right)s", right=ORCH_VERSION)
    assert [trial.state for trial in place.trials()] == [TrialState.COMPLETE]


# The lease is gone


def test_a_reclaimed_trial_is_dropped_at_its_next_report(
    place: Workplace, after_step: SetAfterStep, caplog: pytest.LogCaptureFixture
) -> None:
    later = itertools.count(4)

    def act(trial: Trial, step: int) -> None:
        if (trial.number, step) == (0, 2):
            place.wait_until_arrived(trial)
            place.lose_the_lease()
        if (trial.number, step) == (0, 3):
            while True:  # until it is told that the lease is gone
                trial.report(0.0, next(later))

    place.create(worker={"max_failures": 2}, trials=1)
    after_step(act)
    with caplog.at_level(logging.INFO):
        place.worker().run()
    first, second = place.trials()
    assert first.state == TrialState.FAIL and list(first.intermediate_values) == [1, 2]
    assert second.state == TrialState.COMPLETE
    assert "trial 0 was taken back meanwhile; dropped" in caplog.text


@pytest.mark.parametrize("end", ["returns", "fails", "is pruned"])
def test_a_reclaimed_trial_is_dropped_at_its_end(
    place: Workplace, function: SetFunction, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    def run(trial: optuna.Trial) -> float:
        if trial.number == 0:
            place.lose_the_lease()
            if end == "fails":
                raise ValueError("on purpose")
            if end == "is pruned":
                raise optuna.TrialPruned
        return 7.0

    function(run)
    place.create("hooked:plain", worker={"max_failures": 2})
    with caplog.at_level(logging.INFO):
        place.worker().run()
    first, second = place.trials()
    assert first.state == TrialState.FAIL and first.user_attrs["orch:reason"] == "lost"
    assert second.value == 7.0
    assert "dropped" in caplog.text


def test_a_trial_reclaimed_before_it_starts_does_not_train(
    place: Workplace, after_step: SetAfterStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.create(worker={"max_failures": 2})
    worker = place.worker()
    claim = Claims.claim

    def claim_and_lose(claims: Claims, since: Position | None) -> Claim:
        claimed = claim(claims, since)
        if not hooked.Hooked.trained:
            place.execute("UPDATE orch.lease SET worker_id = %(other)s", other=str(uuid4()))
            place.execute(
                "INSERT INTO trial_intermediate_values "
                "(trial_id, step, intermediate_value, intermediate_value_type) "
                "SELECT trial_id, 1, 0.5, 'FINITE' FROM trials WHERE study_id = %(study)s"
            )
            worker.leave()
            return dataclasses.replace(claimed, is_fresh=False)
        return claimed

    monkeypatch.setattr(Claims, "claim", claim_and_lose)
    worker.run()
    assert hooked.Hooked.trained == [] and place.only().state == TrialState.RUNNING


def test_a_reclaimed_trial_is_not_paused(place: Workplace, after_step: SetAfterStep) -> None:
    def act(trial: Trial, step: int) -> None:
        if trial.number == 0:
            # The values have arrived, and no heartbeat is due: nothing but the pause can notice.
            place.wait_until_arrived(trial)
            place.lose_the_lease()

    after_step(act)
    place.create(
        pruner={"name": "hyperband", "promote": True, "reduction_factor": 2},
        worker={"max_failures": 3, "heartbeat_seconds": 20},
        trials=4,
    )
    place.worker().run()
    first = place.trials()[0]
    assert first.state == TrialState.FAIL and "orch:paused" not in first.system_attrs


def test_a_deleted_study_is_logged_once(place: Workplace, after_step: SetAfterStep) -> None:
    place.create(trials=3)

    def act(trial: Trial, step: int) -> None:
        if step == 2:
            place.wait_until_arrived(trial)
            delete(place.database, place.study)

    after_step(act)
    with pytest.raises(StudyFailed, match="was deleted; this worker ends"):
        place.worker().run()


def test_a_study_deleted_right_after_the_claim_is_logged_once(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.create(trials=3)
    start = WorkerStorage.start_trial

    def delete_before(*arguments: Any) -> optuna.trial.FrozenTrial:
        delete(place.database, place.study)
        return start(*arguments)

    monkeypatch.setattr(WorkerStorage, "start_trial", delete_before)
    with pytest.raises(StudyFailed, match="was deleted; this worker ends"):
        place.worker().run()


# The database is away


def test_training_continues_during_an_outage_and_every_value_arrives(
    place: Workplace, after_step: SetAfterStep
) -> None:
    def act(trial: Trial, step: int) -> None:
        if step == 1:
            place.own.goes_away()
        if step == 3:
            assert trial.values == pytest.approx({n: trial.params["x"] + n for n in (1, 2, 3)})
            assert not trial.should_prune()
            place.own.comes_back()

    after_step(act)
    place.create()
    place.worker().run()
    trial = place.only()
    assert trial.state == TrialState.COMPLETE
    assert list(trial.intermediate_values) == [1, 2, 3, 4]


def test_after_storage_patience_the_trial_is_saved_and_the_next_worker_resumes_it(
    place: Workplace, after_step: SetAfterStep
) -> None:
    def act(trial: Trial, step: int) -> None:
        if step == 2:
            place.own.goes_away()
        if step > 2:
            state = np.array([float(sum(range(1, step + 1)))])
            while True:  # until its patience is over
                trial.checkpoint(step, lambda: {"state": state})

    after_step(act)
    place.create(worker={"storage_patience": 0.3})
    mine = uuid4()
    with pytest.raises(PatienceExceeded, match=r"longer than worker.storage_patience"):
        place.worker(mine).run()
    trained = list(hooked.Hooked.trained)
    last = trained[-1][1]
    assert last in (2, 3), "on a busy machine the second step itself is beyond the patience"
    assert [path.name for path in saved_files()] == ["trial-0.npz"]
    place.own.comes_back()
    known: list[dict[int, float]] = []
    after_step(lambda trial, step: known.append(trial.values))
    place.worker(mine).run()
    assert hooked.Hooked.trained[len(trained) :] == [(0, step) for step in range(last + 1, 5)]
    trial = place.only()
    assert list(trial.intermediate_values) == [1, 2, 3, 4]
    assert known[-1] == trial.intermediate_values, "what the server lacked is known, too"
    assert trial.user_attrs["orch:restarts"] == [[last, 0]]
    assert not list(saved_files()), "what is kept goes with its trial's end"


def test_an_undelivered_result_is_delivered_by_the_next_worker_on_this_machine(
    place: Workplace, after_step: SetAfterStep
) -> None:
    after_step(lambda trial, step: place.own.goes_away() if step == 4 else None)
    place.create(worker={"storage_patience": 0.3})
    mine = uuid4()
    with pytest.raises(PatienceExceeded, match="the storage is out of reach"):
        place.worker(mine).run()
    place.own.comes_back()
    place.worker(mine).run()
    assert hooked.Hooked.trained == [(0, step) for step in (1, 2, 3, 4)], "nothing twice"
    trial = place.only()
    assert trial.state == TrialState.COMPLETE and list(trial.intermediate_values) == [1, 2, 3, 4]


def test_an_undelivered_result_of_a_function_without_reports_is_delivered_too(
    place: Workplace, function: SetFunction
) -> None:
    calls: list[int] = []

    def run(trial: optuna.Trial) -> float:
        calls.append(trial.number)
        place.own.goes_away()
        return 0.5

    function(run)
    place.create("hooked:plain", worker={"storage_patience": 0.3})
    mine = uuid4()
    with pytest.raises(PatienceExceeded, match="the storage is out of reach"):
        place.worker(mine).run()
    place.own.comes_back()
    place.worker(mine).run()
    assert calls == [0] and place.only().values == [0.5]


def test_saved_state_with_different_parameters_is_not_resumed(
    place: Workplace, after_step: SetAfterStep, caplog: pytest.LogCaptureFixture
) -> None:
    def act(trial: Trial, step: int) -> None:
        if step == 4:
            place.wait_until_arrived(trial)
            place.own.goes_away()

    after_step(act)
    place.create(worker={"storage_patience": 0.3})
    mine = uuid4()
    with pytest.raises(PatienceExceeded):
        place.worker(mine).run()
    place.own.comes_back()
    after_step(lambda trial, step: None)
    place.execute("UPDATE trial_params SET param_value = 0.987654")
    place.worker(mine).run()
    assert place.only().value == 0.987654
    assert "what is kept here has other parameters" in caplog.text


def test_after_storage_patience_a_function_saves_nothing(
    place: Workplace, function: SetFunction, tmp_path: Path
) -> None:
    def run(trial: Trial) -> float:
        place.own.goes_away()
        for step in range(1, 1000):
            trial.report(0.5, step)
            time.sleep(0.02)
        return 0.0

    function(run)
    place.create("hooked:plain", worker={"storage_patience": 0.3})
    with pytest.raises(PatienceExceeded, match=r"longer than worker\.storage_patience"):
        place.worker().run()
    assert not (tmp_path / "unfinished").exists()


def test_undelivered_parameters_are_restored_from_disk(
    place: Workplace, after_step: SetAfterStep, caplog: pytest.LogCaptureFixture
) -> None:
    def act(trial: Trial, step: int) -> None:
        if step == 1:
            place.wait_until_arrived(trial)
            place.own.goes_away()

    after_step(act)
    place.create(worker={"storage_patience": 0.3}, study={"trials": 1})
    mine = uuid4()
    with pytest.raises(PatienceExceeded):
        place.worker(mine).run()
    place.own.comes_back()
    x = place.only().params["x"]
    place.execute("DELETE FROM trial_intermediate_values")
    place.execute("DELETE FROM trial_params")
    after_step(lambda trial, step: None)
    with caplog.at_level(logging.INFO):
        place.worker(mine).run()
    assert "trial 0 goes on after step" in caplog.text and "dropped" not in caplog.text
    assert place.only().params == {"x": x}
    assert place.only().intermediate_values == {step: x + step for step in range(1, 5)}


def test_a_trial_continues_if_the_pruner_cannot_read(
    place: Workplace, function: SetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_storage, "_FRESH_SECONDS", -1.0)

    def run(trial: Trial) -> float:
        trial.report(0.5, 1)
        place.wait_until_arrived(trial)
        place.own.goes_away()
        trial.study.pruner = Reads()
        pruned = trial.should_prune()
        place.own.comes_back()
        return float(pruned)

    class Reads(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            study._storage.get_all_trials(study._study_id, deepcopy=False)
            return True

    function(run)
    place.create("hooked:plain", worker={"heartbeat_seconds": 20})
    place.worker().run()
    assert place.only().value == 0.0


def test_storage_failure_inside_the_objective_ends_the_worker_in_one_line(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        trial.report(0.5, 1)
        place.own.goes_away()
        trial.study.user_attrs  # noqa: B018 - not waited for: the objective's own question
        return 0.0

    function(run)
    place.create("hooked:plain", worker={"storage_patience": 0.3})
    with pytest.raises(PatienceExceeded, match=r"^the storage failed in trial 0: "):
        place.worker().run()


def test_a_worker_stopped_at_once_releases_its_trials(
    place: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    place.create()
    claims = place.claims()
    assert claims.claim().outcome == "trial"
    place.own.goes_away()
    abandon(place.url, place.study.study_id, claims.token)
    assert "its trial is taken back after the grace period" in caplog.text
    place.own.comes_back()
    assert place.only().state == TrialState.RUNNING
    abandon(place.url, place.study.study_id, claims.token)
    assert place.only().state == TrialState.WAITING


# What is tried next


def test_hyperband_with_promotion_trains_each_step_once(place: Workplace) -> None:
    place.create(
        trials=8,
        pruner={"name": "hyperband", "promote": True, "reduction_factor": 2},
        study={"direction": "minimize"},
    )
    place.worker().run()
    trials = place.trials()
    assert len(trials) == 8 and all(trial.state.is_finished() for trial in trials)
    assert len(set(hooked.Hooked.trained)) == len(hooked.Hooked.trained)
    # Seven begin with one step, as the first bracket of 4 steps has; its best go on.
    steps = sorted(len(trial.intermediate_values) for trial in trials)
    assert steps[0] == 1 and steps[-1] == 4
    assert place.execute("SELECT * FROM orch.checkpoint") == []


def test_a_grid_with_a_failing_cell_ends_without_it(
    place: Workplace, after_step: SetAfterStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile a second worker finds neither work nor an end, and waits."""
    place.create(
        trials=9,
        sampler={"name": "grid"},
        space={"x": {"choice": [0.25, 0.5]}},
        worker={"max_failures": 5},
    )
    waiting = place.worker()

    def act(trial: Trial, step: int) -> None:
        if trial.number == 0:
            raise ValueError("on purpose")
        if step == 1:
            thread.start()
            wait_until(lambda: len(asked) == 3)

    asked: list[Position | None] = []
    claim = Claims.claim

    def claim_and_note(claims: Claims, since: Position | None) -> Claim:
        if claims.token == waiting.token:
            asked.append(since)
        return claim(claims, since)

    monkeypatch.setattr(Claims, "claim", claim_and_note)
    thread = threading.Thread(target=waiting.run)
    after_step(act)
    place.worker().run()
    thread.join(30)
    assert not thread.is_alive()
    assert [trial.state for trial in place.trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    [row] = place.execute("SELECT reason FROM orch.study WHERE study_id = %(study)s")
    assert row["reason"] == "every configuration has been tried"


def test_inactive_parameters_are_not_drawn(place: Workplace) -> None:
    place.create("hooked:Conditional")
    place.worker().run()
    assert list(place.only().params) == ["x"]


def test_a_sampler_that_has_tried_everything_ends_the_study(place: Workplace) -> None:
    place.create(trials=9, sampler={"name": "bruteforce"}, space={"x": {"choice": [0.25, 0.5]}})
    place.worker().run()
    assert sorted(trial.params["x"] for trial in place.trials()) == [0.25, 0.5]
    [row] = place.execute("SELECT state, reason FROM orch.study WHERE study_id = %(study)s")
    assert row == {"state": "exhausted", "reason": "every configuration has been tried"}


def test_a_study_stopped_by_its_objective_says_so(place: Workplace, function: SetFunction) -> None:
    def run(trial: optuna.Trial) -> float:
        if trial.number == 2:
            trial.study.stop()
        return 1.0

    function(run)
    place.create("hooked:plain", trials=9)
    place.worker().run()
    assert [trial.state for trial in place.trials()] == [TrialState.COMPLETE] * 3
    [row] = place.execute("SELECT state, reason FROM orch.study WHERE study_id = %(study)s")
    assert row == {"state": "exhausted", "reason": "the objective called study.stop()"}
    found = summarise(place.database, open_study(place.database, place.name)).verdict
    assert "No further trial starts: the objective called study.stop()." in found
    assert not any("So far" in sentence for sentence in found)


def test_a_terminator_that_cannot_judge_ends_neither_the_worker_nor_the_search(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(*_: Any) -> bool:
        raise FloatingPointError("overflow encountered in subtract")

    monkeypatch.setattr(worker_module, "is_over", raises)
    place.create(trials=3, terminator={"name": "stagnation", "min_n_trials": 1})
    place.worker().run()
    assert [trial.state for trial in place.trials()] == [TrialState.COMPLETE] * 3
    said = [line for line in caplog.messages if "the terminator cannot judge" in line]
    assert len(said) == 1 and "overflow encountered in subtract" in said[0]


def test_a_terminator_that_expects_no_gain_ends_the_study(
    place: Workplace, function: SetFunction
) -> None:
    function(lambda trial: 1.0)
    place.create(
        "hooked:plain", trials=99,
        terminator={"name": "stagnation", "min_n_trials": 3, "max_stagnation_trials": 2},
    )  # fmt: skip
    place.worker().run()
    assert len(place.trials()) < 20
    [row] = place.execute("SELECT reason FROM orch.study WHERE study_id = %(study)s")
    assert row["reason"] == "no worthwhile gain is expected"


# Checkpoints and models


def test_a_checkpoint_above_the_limit_stops_checkpoints_not_the_trial(
    place: Workplace,
    after_step: SetAfterStep,
    function: SetFunction,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place.create(worker={"artifact_limit_mb": 1})

    def act(trial: Trial, step: int) -> None:
        trial.checkpoint(step, lambda: {"state": np.zeros(200_000)})
        wait_until(lambda: "no checkpoints for this study" in caplog.text)

    after_step(act)
    place.worker().run()
    assert place.only().state == TrialState.COMPLETE
    assert caplog.text.count("no checkpoints for this study") == 1
    assert caplog.text.count("raise worker.artifact_limit_mb") == 1


def test_a_failing_artifact_store_warns_once_and_the_trial_completes(
    place: Workplace, after_step: SetAfterStep, caplog: pytest.LogCaptureFixture
) -> None:
    def act(trial: Trial, step: int) -> None:
        place.execute("ALTER TABLE IF EXISTS orch.artifact_chunk RENAME TO chunk_away")
        trial.checkpoint(step, lambda: {"state": np.zeros(1)})
        wait_until(lambda: "a checkpoint was not saved" in caplog.text)

    place.create()
    after_step(act)
    try:
        place.worker().run()
    finally:
        place.execute("ALTER TABLE orch.chunk_away RENAME TO artifact_chunk")
    assert place.only().state == TrialState.COMPLETE
    assert caplog.text.count("a checkpoint was not saved") == 1


@pytest.mark.parametrize(("damaged", "trained"), [([3], [3, 4]), ([2, 3], [1, 2, 3, 4])])
def test_a_damaged_checkpoint_falls_back_to_the_previous_one(
    place: Workplace,
    after_step: SetAfterStep,
    caplog: pytest.LogCaptureFixture,
    damaged: list[int],
    trained: list[int],
) -> None:
    place.create()
    leaving = place.worker()

    def act(trial: Trial, step: int) -> None:
        if step > 1:
            place.wait_until_saved(step - 1)
        if step == 3:
            leaving.leave()

    after_step(act)
    leaving.run()
    place.execute(
        "UPDATE orch.checkpoint SET sha256 = 'wrong' WHERE step = ANY (%(steps)s)", steps=damaged
    )
    place.execute(
        "UPDATE trial_intermediate_values SET step = step + 8, intermediate_value = 9 "
        "WHERE step = ANY (%(steps)s)", steps=damaged
    )  # fmt: skip
    if damaged == [2, 3]:
        place.execute("UPDATE trial_intermediate_values SET intermediate_value = 9 WHERE step = 1")
    after_step(lambda trial, step: None)
    place.worker().run()
    assert "checkpoint of step 3 cannot be used (its checksum is wrong)" in caplog.text
    assert hooked.Hooked.trained == [(0, step) for step in [1, 2, 3, *trained]]
    trial = place.only()
    assert trial.intermediate_values == {each: trial.params["x"] + each for each in (1, 2, 3, 4)}


def test_models_of_the_best_trials_are_kept_and_others_removed(
    place: Workplace, function: SetFunction, caplog: pytest.LogCaptureFixture
) -> None:
    values = [3.0, 1.0, 2.0, 5.0, 0.5]
    saved: list[float] = []

    def run(trial: Trial) -> float:
        value = values[trial.number]

        def save(path: Path) -> None:
            saved.append(value)
            # The last one is above the cap: not kept, and no fault.
            path.write_bytes(bytes(2 * 1024 * 1024) if trial.number == 4 else b"model")

        trial.offer_model(value, save)
        return value

    function(run)
    place.create(
        "hooked:plain", trials=5, study={"direction": "minimize"},
        worker={"keep_models": 2, "artifact_limit_mb": 1},
    )  # fmt: skip
    place.worker().run()
    assert all(trial.state == TrialState.COMPLETE for trial in place.trials())
    kept = place.execute(
        "SELECT number FROM orch.model JOIN trials USING (trial_id) ORDER BY number"
    )
    assert [row["number"] for row in kept] == [1, 2]
    assert saved == [3.0, 1.0, 2.0, 0.5], "what cannot be among the best is not even written"
    assert place.execute("SELECT count(*) AS n FROM orch.artifact") == [{"n": 2}]
    assert "the model of trial 4 is not kept" in caplog.text


def test_losing_a_model_does_not_fail_the_trial(place: Workplace, function: SetFunction) -> None:
    def run(trial: Trial) -> float:
        place.own.goes_away()
        trial.offer_model(1.0, lambda path: path.write_bytes(b""))
        place.own.comes_back()
        return 1.0

    function(run)
    place.create("hooked:plain")
    place.worker().run()
    assert place.only().value == 1.0
