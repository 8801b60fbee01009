"""What an attempt costs that did not end its trial: each row of the table in ``endings.py``."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from fault_site import wait_until
from optuna.trial import TrialState
from worker.workplace import SetAfterStep, SetFunction, Workplace, take

from orchestrator.errors import StudyFailed, UsageError
from orchestrator.objective import FailedTrialError
from orchestrator.storage.artifacts import PostgresArtifactStore
from orchestrator.storage.claims import Failure
from orchestrator.storage.studies import open_study, reopen
from orchestrator.worker.trial import Trial


def states(place: Workplace) -> list[str]:
    return [trial.state.name for trial in place.trials()]


# One attempt


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("no licence"), MemoryError("full")])
def test_any_exception_costs_one_attempt(
    place: Workplace, function: SetFunction, error: BaseException
) -> None:
    def run(trial: optuna.Trial) -> float:
        if trial.number < 2:
            raise error
        return 1.0

    function(run)
    place.create("hooked:plain", worker={"max_retries": 2})
    place.worker().run()
    trials = place.trials()
    assert states(place) == ["FAIL", "FAIL", "COMPLETE"]
    assert [trial.user_attrs.get("orch:attempt", 1) for trial in trials] == [1, 2, 3]
    assert trials[0].user_attrs["orch:reason"].startswith(type(error).__name__)


# Certain to come again


def test_a_configuration_that_the_objective_gives_up_is_not_retried(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: optuna.Trial) -> float:
        if trial.number == 0:
            raise FailedTrialError("more layers than the card holds")
        return 1.0

    function(run)
    place.create("hooked:plain", worker={"max_retries": 3, "max_failures": 2})
    place.worker().run()
    assert states(place) == ["FAIL", "COMPLETE"]
    reason = place.trials()[0].user_attrs["orch:reason"]
    assert "more layers than the card holds" in reason


@pytest.mark.parametrize(
    "mistake",
    [lambda trial: trial.params.typo, lambda trial: None, lambda trial: sys.exit("usage: train")],
)
def test_a_bug_in_the_objective_ends_the_study_after_max_failures_attempts(
    place: Workplace, function: SetFunction, mistake: Callable[[optuna.Trial], object]
) -> None:
    attempts = []

    def run(trial: optuna.Trial) -> object:
        attempts.append(trial.number)
        return mistake(trial)

    function(run)
    place.create("hooked:plain", trials=20, worker={"max_retries": 3, "max_failures": 5})
    with pytest.raises(StudyFailed, match="5 configurations in a row failed"):
        place.worker().run()
    assert len(attempts) <= 5
    assert set(states(place)) == {"FAIL"}


def test_failures_at_different_lines_are_retried(place: Workplace, function: SetFunction) -> None:
    failed: list[int] = []

    def run(trial: optuna.Trial) -> float:
        if "orch:attempt" in trial.user_attrs or len(failed) == 2:
            return 1.0
        failed.append(trial.number)
        if len(failed) == 1:
            raise ValueError("here")
        raise ValueError("there")

    function(run)
    place.create("hooked:plain", trials=2, worker={"max_retries": 1})
    place.worker().run()
    assert sorted(states(place)) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]


def test_out_of_memory_is_retried(place: Workplace, function: SetFunction) -> None:
    def run(trial: optuna.Trial) -> float:
        if "orch:attempt" not in trial.user_attrs:
            raise MemoryError
        return 1.0

    function(run)
    place.create("hooked:plain", trials=3, worker={"max_retries": 1})
    place.worker().run()
    assert sorted(states(place)) == ["COMPLETE"] * 3 + ["FAIL"] * 3


def test_first_attempts_of_two_configurations_decide_whether_the_code_is_broken(
    place: Workplace,
) -> None:
    """A retry that fails as its first attempt did says nothing about other configurations."""
    place.create(trials=1, worker={"max_retries": 2, "max_failures": 9})
    claims, typo = place.claims(), Failure("failed", "ValueError train.py:7")
    for attempt in (1, 2, 3):
        trial = take(claims)
        assert claims.fail(trial, "no such layer", {}, typo)
        assert place.trials()[-1].user_attrs.get("orch:attempt", 1) == min(attempt + 1, 3)
    assert states(place) == ["FAIL"] * 3
    assert claims.fail(take(claims), "no such layer", {}, typo)
    assert states(place) == ["FAIL"] * 4, "the second configuration has no retry"
    [row] = place.execute("SELECT failures_in_row FROM orch.study WHERE study_id = %(study)s")
    assert row["failures_in_row"] == 2, "each configuration once"


def test_a_doubtful_retry_waits_for_one_new_configuration_if_the_budget_allows(
    place: Workplace,
) -> None:
    place.create(trials=3, worker={"max_retries": 2, "max_failures": 9})
    claims, typo = place.claims(), Failure("failed", "ValueError train.py:7")
    assert claims.fail(take(claims), "no such layer", {}, typo)
    fresh = take(claims)
    assert [trial.state for trial in place.trials()[1:]] == [TrialState.WAITING, TrialState.RUNNING]
    assert claims.finish(fresh, "COMPLETE", [1.0], {})
    retry = take(claims)
    assert place.trials()[1]._trial_id == retry, "now it is its turn"
    assert claims.fail(retry, "no such layer", {}, typo)
    assert claims.finish(take(claims), "COMPLETE", [1.0], {})
    third = take(claims)
    assert place.trials()[3]._trial_id == third, "the budget has no room for a fresh one beside it"


def test_a_certain_failure_cancels_the_waiting_retries(place: Workplace) -> None:
    place.create(trials=3, worker={"max_retries": 3, "max_failures": 9})
    claims, typo = place.claims(), Failure("failed", "ValueError train.py:7")
    assert claims.fail(take(claims), "no such layer", {}, typo)
    assert claims.fail(take(claims), "no such layer", {}, typo)
    first, retry, second = place.trials()
    assert {each.state for each in (first, retry, second)} == {TrialState.FAIL}
    assert retry.user_attrs["orch:reason"] == "no such layer" and retry.datetime_start
    [row] = place.execute("SELECT failures_in_row FROM orch.study WHERE study_id = %(study)s")
    assert row["failures_in_row"] == 2, "each configuration once"


# Lost


def test_ten_lost_leases_are_free_and_later_ones_cost_an_attempt(
    place: Workplace,
) -> None:
    place.create(worker={"max_retries": 1, "max_failures": 1})
    claims = place.claims()
    for loss in range(12):
        assert open_study(place.database, place.name).state == "open", loss
        take(claims)
        place.lose_the_lease()
    trials = place.trials()
    attempts = [trial.user_attrs.get("orch:attempt", 1) for trial in trials]
    assert attempts == [1] * 11 + [2]
    assert trials[-1].user_attrs["orch:losses"] == 11
    assert open_study(place.database, place.name).state == "failed"


# Wrong use


def test_wrong_use_stops_the_study_at_once_and_the_trial_waits(
    place: Workplace, function: SetFunction
) -> None:
    function(lambda trial: [1.0, 2.0])
    place.create("hooked:plain", trials=20, worker={"max_retries": 3})
    other = place.worker()
    with pytest.raises(UsageError, match=r"2 values, and the study has 1 metrics") as raised:
        place.worker().run()
    assert states(place) == ["WAITING"], "no attempt"
    study = open_study(place.database, place.name)
    assert study.state == "failed" and "2 values" in (study.reason or "")
    with pytest.raises(UsageError) as told:
        other.run()
    assert str(told.value) == str(raised.value), "the same words, so that they are said once"

    function(lambda trial: 1.0)
    reopen(place.database, study)
    place.worker().run()
    assert states(place) == ["COMPLETE"] * 20


# This machine's fault


def test_a_full_disk_ends_the_worker_and_costs_no_attempt(
    place: Workplace, after_step: SetAfterStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed: list[bool] = []

    def full(*_: Any) -> None:
        noticed.append(True)
        raise OSError(errno.ENOSPC, "No space left on device")

    place.create(trials=1)
    with monkeypatch.context() as patched:
        patched.setattr(PostgresArtifactStore, "write", full)
        # The thread needs a moment to find out.
        after_step(lambda trial, step: wait_until(lambda: bool(noticed)) if step > 1 else None)
        with pytest.raises(StudyFailed, match=r"No space left on device.* is given back"):
            place.worker().run()
    assert states(place) == ["WAITING"]
    place.worker().run()
    assert states(place) == ["COMPLETE"]
    assert "orch:attempt" not in place.only().user_attrs


def test_a_disk_too_full_for_a_model_ends_the_worker(
    place: Workplace, function: SetFunction
) -> None:
    def run(trial: Trial) -> float:
        def save(path: Path) -> None:
            # As h5py says it.
            raise OSError(
                "Can't write data (errno = 28, error message = 'No space left on device')"
            )

        trial.offer_model(1.0, save)
        return 1.0

    function(run)
    place.create("hooked:plain")
    with pytest.raises(StudyFailed, match="cannot write the model"):
        place.worker().run()
    assert states(place) == ["WAITING"]


@pytest.mark.parametrize("steps", [0, 1])
def test_a_lost_gpu_ends_the_worker_only_before_the_first_step(
    place: Workplace, function: SetFunction, steps: int
) -> None:
    def run(trial: optuna.Trial) -> float:
        for step in range(steps):
            trial.report(1.0, step)
        raise RuntimeError("CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected")

    function(run)
    place.create("hooked:plain")
    words = "1 configuration failed" if steps else "GPU or its driver is gone"
    with pytest.raises(StudyFailed, match=words):
        place.worker().run()
    assert states(place) == (["FAIL"] if steps else ["WAITING"])
