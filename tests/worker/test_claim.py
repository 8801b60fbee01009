"""The claim on a real server: the budget, leases, retries, ends, from several connections."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from optuna.trial import TrialState
from worker.workplace import take

from orchestrator.resolve.resolve import create
from orchestrator.search.plans.plan import Step
from orchestrator.spec.model import StudySpec
from orchestrator.storage.artifacts import PostgresArtifactStore
from orchestrator.storage.claims import Account, Claims, Writes
from orchestrator.storage.database import Database, Row
from orchestrator.storage.rdb_storage import open_optuna_storage
from orchestrator.storage.studies import StoredStudy, delete, open_study, raise_budget, reopen, stop
from orchestrator.storage.trial_cache import Position

MakeStudy = Callable[..., StoredStudy]
MakeWorker = Callable[[StoredStudy], Claims]


@pytest.fixture
def make_study(store_study: MakeStudy) -> MakeStudy:
    def make(trials: int = 3, **worker: Any) -> StoredStudy:
        quick = {"heartbeat_seconds": 0.1, "grace_seconds": 0.3}
        return store_study(trials=trials, worker={**quick, **worker})

    return make


@pytest.fixture
def make_worker(url: str) -> Iterator[MakeWorker]:
    databases: list[Database] = []

    def make(study: StoredStudy) -> Claims:
        databases.append(Database(url))
        claims = Claims(databases[-1], study.study_id, uuid4())
        claims.join(f"worker-{len(databases)}")
        return claims

    yield make
    for each in databases:
        each.close()


def trials(database: Database, study: StoredStudy) -> list[Row]:
    return database.execute(
        "SELECT trial_id, number, state::text, datetime_start FROM trials "
        "WHERE study_id = %(id)s ORDER BY number",
        {"id": study.study_id},
    )


def attributes(database: Database, trial_id: int | None) -> dict[str, Any]:
    rows = database.execute(
        "SELECT key, value_json::jsonb AS value FROM trial_user_attributes WHERE trial_id = %(id)s",
        {"id": trial_id},
    )
    return {row["key"]: row["value"] for row in rows}


def test_no_more_trials_are_claimed_than_the_budget_allows(
    make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study(trials=2)
    first, second, third = (make_worker(study) for _ in range(3))
    held = take(first)
    take(second)
    assert third.claim().outcome == "wait"
    assert first.finish(held, "COMPLETE", [1.0], {})
    assert third.claim().outcome == "wait", "the second trial may still fail"


def test_concurrent_claims_share_exactly_the_budget(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study(trials=25)
    outcomes: list[str] = []

    def work(claims: Claims) -> None:
        while True:
            claim = claims.claim()
            outcomes.append(claim.outcome)
            if claim.outcome == "done":
                return
            if claim.trial_id is not None:
                claims.finish(claim.trial_id, "PRUNED", [0.5], {})

    threads = [threading.Thread(target=work, args=(make_worker(study),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("trial") == 25
    numbers = [row["number"] for row in trials(database, study)]
    assert numbers == list(range(25)), "numbers are Optuna's: 0, 1, 2, … without a gap"


def test_a_finished_trial_has_its_value_and_attributes(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study()
    claims = make_worker(study)
    trial = take(claims)
    assert claims.finish(trial, "COMPLETE", [0.25], {"orch:worker": "me"})
    assert attributes(database, trial)["orch:worker"] == "me"
    assert trials(database, study)[0]["state"] == "COMPLETE"
    value = database.execute(
        "SELECT value FROM trial_values WHERE trial_id = %(id)s", {"id": trial}
    )
    assert claims.finish(trial, "COMPLETE", [9.0], {}), "asked again, as after a broken connection"
    assert not claims.finish(trial, "PRUNED", [9.0], {}), "it has ended otherwise"
    assert value == database.execute(
        "SELECT value FROM trial_values WHERE trial_id = %(id)s", {"id": trial}
    ), "nothing is overwritten"


def test_finishing_a_trial_resends_only_unacknowledged_writes(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    claims = make_worker(make_study(trials=3))
    arrived, otherwise = Writes({1: 0.1}), Writes({1: 0.9})
    # The newest write that the server has, and the one that the worker knows to have arrived.
    for has, known, expected in ((3, 3, 0.1), (3, 4, 0.9), (0, 1, 0.9)):
        trial = take(claims)
        assert claims.write(trial, arrived, durable=False, serial=has)[0]
        # What the account says is not what was written; so it shows whether it is written again.
        account = Account(otherwise, Writes({2: 0.2}), known)
        assert claims.finish(trial, "COMPLETE", [0.5], {}, account)
        rows = database.execute(
            "SELECT step, intermediate_value AS value FROM trial_intermediate_values "
            "WHERE trial_id = %(id)s ORDER BY step",
            {"id": trial},
        )
        values = {row["step"]: row["value"] for row in rows}
        assert values == ({1: expected, 2: 0.2} if known == has else {1: expected})


def test_a_write_behind_a_lost_one_is_not_counted(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    claims = make_worker(make_study())
    trial = take(claims)
    for serial, after, counted in ((1, 0, 1), (2, 1, 2), (5, 4, 2), (6, 0, 6)):
        assert claims.write(trial, Writes({serial: 0.5}), serial=serial, after=after)[0]
        rows = database.execute(
            "SELECT serial FROM orch.lease WHERE trial_id = %(id)s", {"id": trial}
        )
        assert rows[0]["serial"] == counted


def test_changes_from_a_finish_and_its_claim_are_returned_once(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study(trials=5)
    mine, lost = make_worker(study), make_worker(study)
    first = mine.claim(Position())
    fallen = take(lost)
    assert first.trial_id is not None and first.changes is not None
    database.execute(
        "UPDATE orch.lease SET renewed_at = renewed_at - interval '1 hour' WHERE trial_id = %(id)s",
        {"id": fallen},
    )
    claim = mine.finish_and_claim(
        first.trial_id, "COMPLETE", [0.5], {}, None, first.changes.position
    )
    assert claim is not None and claim.trial_id is not None and claim.changes is not None
    retry = claim.trial_id  # of the lost one, made in the same transaction
    told = {row[0]: row[2] for row in claim.changes.rows}
    assert told == {first.trial_id: "COMPLETE", fallen: "FAIL", retry: "RUNNING"}
    assert not claim.changes.is_whole
    _, changes = mine.write(retry, Writes({1: 0.5}), since=claim.changes.position)
    assert changes is not None and changes.rows == []
    database.execute(
        "UPDATE trial_values SET value = 0.6 WHERE trial_id = %(id)s", {"id": first.trial_id}
    )
    _, changes = mine.write(retry, Writes({2: 0.5}), since=changes.position)
    assert changes is not None and [row[0] for row in changes.rows] == [first.trial_id]


def test_a_trial_claimed_again_comes_with_its_changes(
    make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    """It has not changed since, and yet who asks again may not have read the first answer."""
    study = make_study()
    mine, other = make_worker(study), make_worker(study)
    first = mine.claim(Position())
    assert first.changes is not None and first.is_fresh
    theirs = take(other)
    again = mine.claim(first.changes.position)
    assert again.trial_id == first.trial_id and again.changes is not None
    assert not again.is_fresh, "its first worker may have written to it"
    assert {row[0] for row in again.changes.rows} == {first.trial_id, theirs}


def test_infinite_values_are_stored_as_optuna_stores_them(
    url: str, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    import optuna

    study = make_study()
    claims = make_worker(study)
    for value in (float("inf"), float("-inf")):
        claims.finish(take(claims), "COMPLETE", [value], {})
    storage = url.replace("postgresql://", "postgresql+psycopg2://")
    loaded = optuna.load_study(study_name=study.name, storage=storage)
    assert [trial.value for trial in loaded.trials] == [float("inf"), float("-inf")]


def test_a_silent_workers_trial_is_reclaimed_and_retried_with_its_parameters(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study()
    lost, other = make_worker(study), make_worker(study)
    trial = take(lost)
    lost.write(trial, Writes(params={"x": (4.5, "{}")}))
    time.sleep(0.4)  # longer than the grace period
    retry = take(other)
    states = {row["trial_id"]: row["state"] for row in trials(database, study)}
    assert states == {trial: "FAIL", retry: "RUNNING"}
    assert "no sign of life" in attributes(database, trial)["orch:reason"]
    assert attributes(database, retry)["orch:retry_of"] == 0
    params = database.rows("params_of_trial", trial_id=retry)
    assert [(row["param_name"], row["param_value"]) for row in params] == [("x", 4.5)]


def test_a_worker_that_returns_after_its_lease_expired_cannot_write(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study()
    late, other = make_worker(study), make_worker(study)
    trial = take(late)
    time.sleep(0.4)
    take(other)
    assert late.renew() == set()
    assert not late.finish(trial, "COMPLETE", [0.0], {})
    assert not late.fail(trial, "too late", {})
    assert not late.release(trial)
    assert "no sign of life" in attributes(database, trial)["orch:reason"]


def test_a_trial_ended_through_optuna_accepts_no_more_values(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    claims = make_worker(make_study())
    held = take(claims)
    assert claims.write(held, Writes({1: 0.5}))[0]
    open_optuna_storage(database.url).set_trial_state_values(held, TrialState.PRUNED, [0.5])
    assert not claims.write(held, Writes({1: 0.9, 2: 0.9}))[0]
    assert not claims.finish(held, "COMPLETE", [0.9], {})
    values = database.execute(
        "SELECT step, intermediate_value AS value FROM trial_intermediate_values "
        "WHERE trial_id = %(id)s",
        {"id": held},
    )
    assert [(row["step"], row["value"]) for row in values] == [(1, 0.5)]


def test_heartbeats_keep_a_trial(make_study: MakeStudy, make_worker: MakeWorker) -> None:
    study = make_study(trials=1)
    alive, other = make_worker(study), make_worker(study)
    trial = take(alive)
    for _ in range(5):
        time.sleep(0.15)
        assert alive.renew() == {trial}
        assert other.claim().outcome == "wait"
    assert alive.finish(trial, "COMPLETE", [1.0], {})


def test_a_failing_configuration_is_retried_max_retries_times_then_recorded(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study(max_retries=2)
    claims = make_worker(study)
    attempts = []
    for _ in range(3):
        attempts.append(take(claims))
        claims.fail(attempts[-1], "no such layer", {})
    assert [attributes(database, trial).get("orch:attempt") for trial in attempts] == [None, 2, 3]
    assert [attributes(database, trial).get("orch:retry_of") for trial in attempts] == [None, 0, 0]
    assert "orch:retried_as" not in attributes(database, attempts[-1])
    fresh = take(claims)
    assert "orch:retry_of" not in attributes(database, fresh)


def test_a_success_resets_the_failure_count(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study(trials=9, max_retries=0, max_failures=2)
    claims = make_worker(study)
    claims.fail(take(claims), "first", {})
    claims.finish(take(claims), "COMPLETE", [1.0], {})
    claims.fail(take(claims), "second", {})
    assert open_study(database, study.name).state == "open"
    claims.fail(take(claims), "third", {})
    failed = claims.claim()
    assert failed.outcome == "failed" and "third" in (failed.reason or "")
    reopen(database, study)
    take(claims)


def test_a_released_trial_is_the_same_attempt_without_its_values(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study()
    leaving, other = make_worker(study), make_worker(study)
    trial = take(leaving)
    leaving.write(trial, Writes(values={1: 0.5}))
    assert leaving.release(trial)
    assert trials(database, study)[0]["datetime_start"] is None, "it starts anew"
    assert take(other) == trial
    rows = database.execute(
        "SELECT 1 FROM trial_intermediate_values WHERE trial_id = %(id)s", {"id": trial}
    )
    assert rows == [] and "orch:retry_of" not in attributes(database, trial)


def test_an_enqueued_trial_is_claimed_before_a_new_one(
    url: str, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    import optuna

    study = make_study()
    storage = url.replace("postgresql://", "postgresql+psycopg2://")
    optuna.load_study(study_name=study.name, storage=storage).enqueue_trial({"x": 1.0, "y": 2.0})
    first, second = take(make_worker(study)), take(make_worker(study))
    assert first < second


@pytest.fixture
def planned(database: Database, name: str) -> Iterator[StoredStudy]:
    """A study of two cells, which a plan queues."""
    document = {
        "study": {"name": name, "objective": "quadratic"},
        "sampler": {"name": "grid"},
        "space": {"x": {"choice": [1.0, 2.0]}, "y": 0.0},
    }
    study = create(database, StudySpec.parse(document))
    yield study
    delete(database, study)


def test_only_the_first_of_two_plans_for_a_stage_is_stored(
    database: Database, planned: StoredStudy, make_worker: MakeWorker
) -> None:
    first, second = make_worker(planned), make_worker(planned)
    stages = []
    for claims in (first, second):
        claim = claims.claim()
        assert claim.outcome == "plan" and claim.stage is not None
        stages.append(claim.stage)
    step = Step(queue=[({"x": 1.0, "y": 0.0}, {}), ({"x": 2.0, "y": 0.0}, {})])
    assert first.advance(stages[0], step.queue)
    assert not second.advance(stages[1], step.queue)
    assert [row["state"] for row in trials(database, planned)] == ["WAITING", "WAITING"]
    second.exhaust("nothing is left", stages[1])
    assert second.claim().outcome == "trial", "what was queued meanwhile keeps the study open"


def test_an_exhausted_study_is_done_and_can_be_resumed(
    database: Database, planned: StoredStudy, make_worker: MakeWorker
) -> None:
    claims = make_worker(planned)
    claims.exhaust("nothing is left", None)
    assert claims.claim().outcome == "done"
    assert open_study(database, planned.name).state == "exhausted"
    reopen(database, planned)
    assert claims.claim().outcome == "plan"


def test_a_paused_trial_is_not_claimed_until_promoted(
    database: Database, planned: StoredStudy, make_worker: MakeWorker
) -> None:
    claims = make_worker(planned)
    bracket = {"orch:bracket": 0, "orch:round": 0}
    assert claims.advance(0, [({}, bracket), ({}, bracket)])
    held = [take(claims)]
    started = trials(database, planned)[0]["datetime_start"]
    set_here = Writes({3: 0.7}, system_attributes={"constraints:a": "-1.0"})
    assert claims.write(held[0], set_here)[0] and claims.pause(held[0])
    held.append(take(claims))
    assert held[1] != held[0]
    set_here = Writes({3: 0.4}, system_attributes={"constraints:a": "1.0"})
    assert claims.write(held[1], set_here)[0] and claims.pause(held[1])
    assert claims.claim().outcome == "plan"
    assert claims.advance(1, promote=[held[0]], prune=[held[1]])
    assert take(claims) == held[0]
    assert [row["state"] for row in trials(database, planned)] == ["RUNNING", "PRUNED"]
    assert trials(database, planned)[0]["datetime_start"] == started is not None
    rounds = database.execute(
        "SELECT value_json FROM trial_system_attributes WHERE trial_id = %(id)s "
        "AND key = 'orch:round'",
        {"id": held[0]},
    )
    assert rounds[0]["value_json"] == "1"
    values = database.execute(
        "SELECT value FROM trial_values WHERE trial_id = %(id)s", {"id": held[1]}
    )
    assert [row["value"] for row in values] == [0.4], "Optuna's rule for a pruned trial"
    constraints = database.execute(
        "SELECT trial_id FROM trial_system_attributes WHERE key = 'constraints:a' "
        "AND trial_id = ANY (%(held)s)",
        {"held": held},
    )
    assert [row["trial_id"] for row in constraints] == [held[1]], "the promoted one sets it anew"


def test_a_stopped_study_gives_no_trials_until_resumed(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study()
    claims = make_worker(study)
    assert stop(database, study) == 1
    assert claims.claim().outcome == "drained"
    reopen(database, study)
    take(claims)


def test_a_higher_budget_allows_more_claims(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study(trials=1)
    claims = make_worker(study)
    claims.finish(take(claims), "COMPLETE", [1.0], {})
    assert claims.claim().outcome == "done"
    raise_budget(database, study, 2)
    take(claims)
    assert open_study(database, study.name).spec.study.trials == 2


def test_two_studies_never_disturb_each_other(
    database: Database, make_worker: MakeWorker, name: str
) -> None:
    def make(suffix: str) -> StoredStudy:
        document = {"study": {"name": name + suffix, "objective": "quadratic", "trials": 1}}
        return create(database, StudySpec.parse(document))

    one, two = make("a"), make("b")
    take(make_worker(one))
    take(make_worker(two))
    delete(database, one)
    assert [row["number"] for row in trials(database, two)] == [0]
    assert make_worker(two).claim().outcome == "wait"
    delete(database, two)


def test_workers_see_that_their_study_was_deleted(
    database: Database, make_worker: MakeWorker, name: str
) -> None:
    document = {"study": {"name": name, "objective": "quadratic"}}
    study = create(database, StudySpec.parse(document))
    claims = make_worker(study)
    trial = take(claims)
    delete(database, study)
    assert claims.claim().outcome == "gone"
    assert not claims.finish(trial, "COMPLETE", [1.0], {})


def test_unrecorded_artifact_bytes_are_deleted_after_a_day(
    database: Database, make_study: MakeStudy, make_worker: MakeWorker
) -> None:
    study = make_study()
    worker = make_worker(study)
    store = PostgresArtifactStore(database, limit_bytes=100)
    names = {"orphan", "fresh", "checkpoint", "noted", "picture"}
    for each in names:
        store.write(each, io.BytesIO(b"bytes"))
    trial = take(worker)
    worker.save_checkpoint(trial, 1, "checkpoint", "0", Writes())
    database.execute(
        "INSERT INTO trial_system_attributes (trial_id, key, value_json) "
        "VALUES (%(trial)s, 'artifacts:noted', '{}')",
        {"trial": trial},
    )
    database.execute(
        "INSERT INTO study_system_attributes (study_id, key, value_json) "
        "VALUES (%(study)s, 'dashboard:artifacts:1:picture', %(note)s)",
        {"study": study.study_id, "note": json.dumps(json.dumps({"artifact_id": "picture"}))},
    )
    database.execute(
        "UPDATE orch.artifact SET created_at = now() - interval '25 hours' "
        "WHERE artifact_id <> 'fresh'"
    )
    make_worker(study)
    left = {row["artifact_id"] for row in database.execute("SELECT artifact_id FROM orch.artifact")}
    for each in names & left:
        store.remove(each)
    assert names - left == {"orphan"}
