"""Which trial is taken back, and who waits for whom: the rules of the lease, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from optuna.trial import TrialState
from worker.workplace import Workplace, take

from orchestrator.errors import StorageError
from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.schema import ORCH_VERSION
from orchestrator.storage.studies import delete, open_study, reopen

GRACE = {"heartbeat_seconds": 0.1, "grace_seconds": 0.2, "max_retries": 3}
LOST = "UPDATE orch.lease SET renewed_at = renewed_at - interval '1 hour'"


@pytest.fixture
def impatient(place: Workplace) -> Iterator[Database]:
    """A connection that does not wait for another's lock."""
    database = Database(place.url)
    database.execute("SET lock_timeout = '500ms'")
    yield database
    database.close()


@pytest.fixture
def other(place: Workplace) -> Iterator[Database]:
    """One more connection."""
    database = Database(place.url)
    yield database
    database.close()


def joined(database: Database, place: Workplace) -> Claims:
    claims = Claims(database, place.study.study_id, uuid4())
    claims.join("impatient")
    return claims


def test_a_restarted_server_reclaims_nothing_for_one_grace_period(place: Workplace) -> None:
    """A year: this server has not run for so long."""
    place.create(worker={"grace_seconds": 31_536_000})
    take(place.claims())
    place.execute("UPDATE orch.lease SET renewed_at = renewed_at - interval '2 years'")
    assert place.claims().claim().outcome == "wait"
    assert place.only().state == TrialState.RUNNING


def test_a_claim_reclaims_only_lost_trials_of_its_own_study(place: Workplace) -> None:
    place.create(worker=GRACE)
    take(place.claims())
    document = {"study": {"name": f"{place.name}-b", "objective": "quadratic"}, "worker": GRACE}
    study = create(place.database, StudySpec.parse(document))
    silent, beside = (Claims(place.database, study.study_id, uuid4()) for _ in range(2))
    for claims in (silent, beside):
        claims.join("beside")
    lost = take(silent)
    place.execute(LOST)
    assert take(beside) != lost
    assert place.only().state == TrialState.RUNNING
    take(place.claims())
    assert [trial.state for trial in place.trials()] == [TrialState.FAIL, TrialState.RUNNING]
    delete(place.database, study)


def test_a_claim_does_not_wait_for_a_lease_being_renewed(
    place: Workplace, impatient: Database, other: Database
) -> None:
    place.create(worker=GRACE)
    take(place.claims())
    place.execute(LOST)
    with other.transaction():
        other.execute("SELECT * FROM orch.lease FOR UPDATE")
        assert joined(impatient, place).claim().outcome == "wait"


def test_a_trial_that_was_ended_through_optuna_keeps_its_end(place: Workplace) -> None:
    place.create(worker=GRACE, trials=2)
    trial_id = take(place.claims())
    storage = PostgresStorage(place.database)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    place.execute(LOST)
    take(place.claims())
    assert [trial.state for trial in place.trials()] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert len(place.execute("SELECT * FROM orch.lease")) == 1


def test_ending_a_trial_waits_for_the_studys_lock(
    place: Workplace, impatient: Database, other: Database
) -> None:
    """One order of locks everywhere: the study, then its trials."""
    place.create(worker={"heartbeat_seconds": 10})
    claims = joined(impatient, place)
    trial_id = take(claims)
    with other.transaction():
        other.execute("SELECT orch.lock_study(%(id)s)", {"id": place.study.study_id})
        ends: list[Callable[[], object]] = [
            lambda: claims.finish(trial_id, "COMPLETE", [1.0], {}),
            lambda: claims.fail(trial_id, "", {}),
            lambda: claims.release(trial_id),
            lambda: claims.pause(trial_id),
            lambda: claims.resume(trial_id, 0),
        ]
        for end in ends:
            with pytest.raises(StorageError, match="lock timeout"):
                end()
    assert claims.finish(trial_id, "COMPLETE", [1.0], {})


def test_ending_a_trial_waits_for_a_value_being_written(
    place: Workplace, impatient: Database, other: Database
) -> None:
    place.create(worker={"heartbeat_seconds": 10})
    claims = joined(impatient, place)
    trial_id = take(claims)
    with other.transaction():
        other.execute("UPDATE orch.lease SET renewed_at = clock_timestamp()")
        with pytest.raises(StorageError, match="lock timeout"):
            claims.finish(trial_id, "COMPLETE", [1.0], {})


def test_a_worker_cannot_write_to_another_workers_trial(place: Workplace) -> None:
    place.create(trials=2)
    mine, other = place.claims(), place.claims()
    trial_id = take(mine)
    assert not other.write(trial_id, Writes({1: 0.5}))[0]
    assert other.save_checkpoint(trial_id, 1, "made", "0", Writes({1: 0.5})) == (False, ["made"])
    assert not other.finish(trial_id, "COMPLETE", [1.0], {})
    assert not other.finish_and_claim(trial_id, "COMPLETE", [1.0], {}, None, None)
    assert other.leased() == [], "who may not end the one is not given another"
    assert not other.fail(trial_id, "", {})
    assert not other.release(trial_id)
    assert not other.pause(trial_id)
    assert not other.resume(trial_id, 0)
    assert place.only().intermediate_values == {} and place.only().state == TrialState.RUNNING
    assert mine.checkpoints(trial_id) == []


def test_only_the_worker_that_ended_a_trial_can_repeat_its_end(place: Workplace) -> None:
    place.create()
    mine, other = place.claims(), place.claims()
    trial_id = take(mine)
    assert mine.finish(trial_id, "COMPLETE", [1.0], {})
    assert mine.finish(trial_id, "COMPLETE", [1.0], {})
    assert not mine.finish(trial_id, "PRUNED", [1.0], {})
    assert not other.finish(trial_id, "COMPLETE", [1.0], {})
    assert other.claim().outcome == "done"


def test_a_repeated_claim_renews_the_lease(place: Workplace) -> None:
    place.create(worker={"grace_seconds": 31_536_000})
    claims = place.claims()
    trial_id = take(claims)
    for again in (
        lambda: take(claims),
        lambda: claims.write(trial_id, Writes({1: 0.5})),
        claims.renew,
    ):
        place.execute("UPDATE orch.lease SET renewed_at = renewed_at - interval '1 day'")
        again()
        [row] = place.execute("SELECT clock_timestamp() - renewed_at AS age FROM orch.lease")
        assert row["age"].days == 0


def test_an_ended_trial_is_not_claimed_again(place: Workplace) -> None:
    """Its lease may outlive it: somebody ended it through Optuna's own interface."""
    place.create(trials=2)
    claims = place.claims()
    trial_id = take(claims)
    PostgresStorage(place.database).set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert take(claims) != trial_id


def test_a_schema_of_another_version_gives_no_trials(place: Workplace) -> None:
    place.create()
    claims = place.claims()
    place.execute("UPDATE orch.schema_version SET version = 99")
    try:
        assert claims.claim().outcome == "schema"
    finally:
        place.execute("UPDATE orch.schema_version SET version = %(right)s", right=ORCH_VERSION)
    assert place.trials() == []
    take(claims)


def test_a_worker_that_claims_or_ends_a_trial_counts_as_active_again(place: Workplace) -> None:
    place.create()
    claims = place.claims()
    left = "SELECT left_at FROM orch.worker WHERE study_id = %(study)s"
    claims.leave()
    trial_id = take(claims)
    assert place.execute(left) == [{"left_at": None}]
    claims.leave()
    assert claims.finish(trial_id, "COMPLETE", [1.0], {})
    assert place.execute(left) == [{"left_at": None}]


def test_a_study_past_its_timeout_gives_no_trials(place: Workplace) -> None:
    place.create(trials=3, study={"timeout": "1h"})
    claims = place.claims()
    claims.finish(take(claims), "COMPLETE", [1.0], {})
    place.execute("UPDATE orch.study SET opened_at = opened_at - interval '2 hours'")
    assert claims.claim().outcome == "timeout"
    reopen(place.database, place.study)
    take(claims)


def test_queued_trials_are_claimed_in_order(place: Workplace) -> None:
    place.create(trials=3)
    claims = place.claims()
    assert claims.advance(0, [({"x": 0.1}, {}), ({"x": 0.2}, {})])
    claimed = [take(place.claims()) for _ in range(3)]
    assert claimed == sorted(claimed)


def test_a_retry_resumes_from_the_newest_checkpoint_and_keeps_its_values(
    place: Workplace,
) -> None:
    place.create(worker={"max_retries": 2})
    claims = place.claims()
    trial_id = take(claims)
    rung = {"completed_rung_0": "0.5"}
    writes = Writes({1: 0.5, 2: 0.25}, user_attributes={"mine": "1"}, system_attributes=rung)
    assert claims.write(trial_id, writes)[0]
    assert claims.save_checkpoint(trial_id, 2, "made", "0", Writes({3: 0.125}))[0]
    assert claims.write(trial_id, Writes({4: 9.0}))[0]
    assert claims.fail(trial_id, "on purpose", {"orch:log": "…"})
    retry = take(claims)
    assert claims.checkpoints(retry) == [("made", 2, "0")]
    first, second = place.trials()
    assert list(first.intermediate_values) == [1, 2, 3, 4]
    assert list(second.intermediate_values) == [1, 2]
    assert second.user_attrs == {"mine": 1, "orch:retry_of": 0, "orch:attempt": 2}
    assert second.system_attrs == {"completed_rung_0": 0.5}
    assert first.user_attrs["orch:retried_as"] == 1
    # From the start, the rungs are earned anew, too.
    assert claims.resume(retry, -1)
    assert place.trials()[1].system_attrs == {} and not place.trials()[1].intermediate_values


def test_ending_a_trial_removes_its_checkpoint_and_credits_the_worker(place: Workplace) -> None:
    place.create(trials=3, worker={"max_retries": 0, "max_failures": 3})
    claims = place.claims()
    ends: list[Callable[[int], bool]] = [
        lambda trial: claims.finish(trial, "COMPLETE", [1.0], {}),
        lambda trial: claims.fail(trial, "on purpose", {}),
    ]
    for end in ends:
        trial_id = take(claims)
        assert claims.save_checkpoint(trial_id, 1, f"made-{trial_id}", "0", Writes())[0]
        assert end(trial_id)
        assert place.execute("SELECT * FROM orch.checkpoint") == []
        assert place.execute("SELECT * FROM orch.lease") == []
    [row] = place.execute("SELECT trials, busy_seconds > 0 AS busy FROM orch.worker")
    assert row == {"trials": 2, "busy": True}


def test_a_plan_prunes_paused_trials_with_their_last_numeric_value(place: Workplace) -> None:
    place.create(trials=3)
    claims = place.claims()
    held = take(claims)
    assert claims.write(held, Writes({1: 0.5, 2: 0.25, 3: float("nan")}))[0]
    assert claims.save_checkpoint(held, 3, "made", "0", Writes())[0]
    assert claims.pause(held) and claims.leased() == []
    running = take(claims)
    assert claims.advance(0, prune=[held, running])
    first, second = place.trials()
    assert (first.state, first.value) == (TrialState.PRUNED, 0.25)
    assert second.state == TrialState.RUNNING, "what runs is not pruned by a plan"
    assert place.execute("SELECT * FROM orch.checkpoint") == []
    assert "orch:paused" not in first.system_attrs


def test_keep_models_limits_the_kept_models(place: Workplace) -> None:
    place.create(trials=4)
    claims = place.claims()
    fallen = []
    for value in (3.0, 1.0, 2.0):
        trial_id = take(claims)
        assert claims.finish(trial_id, "COMPLETE", [value], {})
        fallen += claims.keep_model(trial_id, f"model-{value}", "0", 2)
    assert fallen == ["model-3.0"]
    noted = [
        key
        for trial in place.trials()
        for key in trial.system_attrs
        if key.startswith("artifacts:")
    ]
    assert noted == ["artifacts:model-1.0", "artifacts:model-2.0"]


def test_max_failures_in_a_row_end_the_study(place: Workplace) -> None:
    place.create(trials=9, worker={"max_retries": 1, "max_failures": 2})
    claims = place.claims()
    for attempts in range(1, 5):
        assert open_study(place.database, place.name).state == "open", attempts
        assert claims.fail(take(claims), f"failure {attempts}", {})
    assert open_study(place.database, place.name).state == "failed"
    claim = claims.claim()
    assert claim.outcome == "failed"
    assert claim.reason == "2 configurations in a row failed; the last: failure 4"
