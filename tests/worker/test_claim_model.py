"""The claim and the lease against a simple model, on the real server, by several connections."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Claims, Failure, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.schema import prepare
from orchestrator.storage.studies import StoredStudy, delete, raise_budget, reopen, stop

WORKERS = 3
GRACE_SECONDS = 10.0


@dataclass
class ModelTrial:
    """What the model knows of one trial."""

    state: str = "RUNNING"
    attempt: int = 1
    losses: int = 0
    doubtful: str | None = None
    holder: int | None = None
    ended_by: int | None = None


class ClaimModel(RuleBasedStateMachine):
    """Every rule does the same to the server and to the model; then both must agree."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.databases = [Database(self.url) for _ in range(WORKERS)]
        self.trials: dict[int, ModelTrial] = {}
        self.study: StoredStudy | None = None
        self.open = True
        self.failed = False
        self.failures_in_row = 0
        self.first_attempts: Counter[str] = Counter()

    @initialize(budget=st.integers(1, 4), retries=st.integers(0, 2), failures=st.integers(1, 3))
    def start(self, budget: int, retries: int, failures: int) -> None:
        self.budget, self.retries, self.failures = budget, retries, failures
        document = {
            "study": {"name": f"model-{uuid4()}", "objective": "quadratic", "trials": budget},
            "worker": {
                "max_retries": retries,
                "max_failures": failures,
                "heartbeat_seconds": 1,
                "grace_seconds": GRACE_SECONDS,
            },
        }
        self.study = create(self.databases[0], StudySpec.parse(document))
        self.claims = [
            Claims(database, self.study.study_id, uuid4()) for database in self.databases
        ]
        self.ids: list[UUID] = [claims.worker_id for claims in self.claims]
        for index, claims in enumerate(self.claims):
            claims.join(f"w{index}")

    @rule(worker=st.integers(0, WORKERS - 1))
    def claim(self, worker: int) -> None:
        answer = self.claims[worker].claim()
        mine = self.held_by(worker)
        if mine is not None:
            assert (answer.outcome, answer.trial_id) == ("trial", mine), "asked again, same answer"
            return
        expected = self.expected_outcome()
        assert answer.outcome == expected
        if expected != "trial":
            return
        assert answer.trial_id is not None
        waiting = self.claimable()
        if waiting:
            assert answer.trial_id == min(waiting)
            self.trials[answer.trial_id].state = "RUNNING"
        else:
            assert answer.trial_id not in self.trials
            self.trials[answer.trial_id] = ModelTrial()
        self.trials[answer.trial_id].holder = worker

    @rule(worker=st.integers(0, WORKERS - 1), pruned=st.booleans())
    def finish(self, worker: int, pruned: bool) -> None:
        trial = self.any_trial(worker)
        if trial is None:
            return
        state = "PRUNED" if pruned else "COMPLETE"
        model = self.trials[trial]
        held = model.holder == worker
        # Asked again after a broken connection, the answer is the same.
        expected = held or (model.state == state and model.ended_by == worker)
        assert self.claims[worker].finish(trial, state, [1.0], {}) == expected  # type: ignore[arg-type]
        if held:
            model.state, model.holder, model.ended_by = state, None, worker
            self.failures_in_row = 0

    @rule(
        worker=st.integers(0, WORKERS - 1),
        signature=st.sampled_from([None, "ValueError a.py:1", "ValueError a.py:2"]),
        certain=st.booleans(),
    )
    def fail(self, worker: int, signature: str | None, certain: bool) -> None:
        trial = self.any_trial(worker)
        if trial is None:
            return
        held = self.trials[trial].holder == worker
        failure = Failure("certain" if certain else "failed", signature)
        assert self.claims[worker].fail(trial, "on purpose", {}, failure) == held
        if held:
            self.end_as_failed(trial, signature, certain)

    @rule(worker=st.integers(0, WORKERS - 1))
    def release(self, worker: int) -> None:
        trial = self.any_trial(worker)
        if trial is None:
            return
        held = self.trials[trial].holder == worker
        assert self.claims[worker].release(trial) == held
        if held:
            self.trials[trial].state, self.trials[trial].holder = "WAITING", None

    @rule(worker=st.integers(0, WORKERS - 1), step=st.integers(1, 3))
    def report(self, worker: int, step: int) -> None:
        trial = self.any_trial(worker)
        if trial is not None:
            held = self.trials[trial].holder == worker
            assert self.claims[worker].write(trial, Writes({step: 0.5}))[0] == held

    @rule(worker=st.integers(0, WORKERS - 1))
    def grace_period_passes_for(self, worker: int) -> None:
        """The worker falls silent; another one's claim takes its trial back."""
        trial = self.held_by(worker)
        if trial is None:
            return
        self.databases[0].execute(
            "UPDATE orch.lease SET renewed_at = renewed_at - interval '1 hour' "
            "WHERE trial_id = %(id)s",
            {"id": trial},
        )
        assert self.study is not None
        self.databases[0].execute(
            "SELECT orch.lock_study(%(id)s), orch.take_back_lost(%(id)s)",
            {"id": self.study.study_id},
        )
        self.end_attempt(trial, "lost")

    @rule(worker=st.integers(0, WORKERS - 1))
    def its_lease_was_lost_ten_times(self, worker: int) -> None:
        """Losses are rare: the next ones of this configuration count."""
        trial = self.held_by(worker)
        if trial is not None:
            self.databases[0].execute(
                "SELECT orch.set_attribute(%(id)s, 'orch:losses', '10')", {"id": trial}
            )
            self.trials[trial].losses = 10

    @precondition(lambda self: self.budget < 8)
    @rule()
    def raise_the_budget(self) -> None:
        assert self.study is not None
        self.budget += 1
        raise_budget(self.databases[0], self.study, self.budget)

    @rule()
    def stop_and_resume(self) -> None:
        assert self.study is not None
        if self.open and not self.failed:
            stop(self.databases[0], self.study)
            self.open = False
        else:
            reopen(self.databases[0], self.study)
            if self.failed:
                self.failures_in_row = 0
            self.open, self.failed = True, False

    @invariant()
    def the_server_agrees(self) -> None:
        if self.study is None:
            return
        rows = self.databases[0].execute(
            "SELECT trial_id, state::text FROM trials WHERE study_id = %(id)s",
            {"id": self.study.study_id},
        )
        states = {row["trial_id"]: row["state"] for row in rows}
        assert states == {trial: each.state for trial, each in self.trials.items()}
        taken = [state for state in states.values() if state in ("COMPLETE", "PRUNED", "RUNNING")]
        assert len(taken) <= self.budget
        leases = self.databases[0].execute(
            "SELECT trial_id, worker_id FROM orch.lease WHERE study_id = %(id)s",
            {"id": self.study.study_id},
        )
        assert {row["trial_id"]: self.ids.index(UUID(row["worker_id"])) for row in leases} == {
            trial: each.holder for trial, each in self.trials.items() if each.holder is not None
        }

    def teardown(self) -> None:
        if self.study is not None:
            delete(self.databases[0], self.study)
        for database in self.databases:
            database.close()

    def expected_outcome(self) -> str:
        if self.failed:
            return "failed"
        if not self.open:
            return "drained"
        states = [each.state for each in self.trials.values()]
        finished = sum(state in ("COMPLETE", "PRUNED") for state in states)
        if finished >= self.budget:
            return "done"
        return "wait" if finished + states.count("RUNNING") >= self.budget else "trial"

    def claimable(self) -> list[int]:
        """Without the newest trial, where it is a doubtful retry and a fresh one has room."""
        states = [each.state for each in self.trials.values()]
        room = len(states) - states.count("FAIL") < self.budget
        return [
            trial
            for trial, each in self.trials.items()
            if each.state == "WAITING"
            and not (room and each.doubtful and trial == max(self.trials))
        ]

    def end_as_failed(self, trial: int, signature: str | None, certain: bool) -> None:
        if signature is not None and self.trials[trial].attempt == 1:
            self.first_attempts[signature] += 1
        again = signature is not None and self.first_attempts[signature] > 1
        retry = self.end_attempt(trial, "certain" if certain or again else "failed")
        if retry is not None:
            retry.doubtful = signature
        elif signature is not None and (certain or again):
            for waiting, each in list(self.trials.items()):
                if each.state == "WAITING" and each.doubtful == signature:
                    self.end_attempt(waiting, "certain")

    def end_attempt(self, trial: int, ending: str) -> ModelTrial | None:
        """The retry, where there is one."""
        ended = self.trials[trial]
        ended.state, ended.holder = "FAIL", None
        losses = ended.losses + (ending == "lost")
        attempt = ended.attempt + (ending == "failed" or losses > 10)
        if ending != "certain" and attempt - 1 <= self.retries:
            assert self.study is not None
            rows = self.databases[0].execute(
                "SELECT max(trial_id) AS newest FROM trials WHERE study_id = %(id)s",
                {"id": self.study.study_id},
            )
            retry = ModelTrial("WAITING", attempt, losses)
            self.trials[rows[0]["newest"]] = retry
            return retry
        self.failures_in_row += 1
        if self.failures_in_row >= self.failures:
            self.failed = True
        return None

    def held_by(self, worker: int) -> int | None:
        return next((t for t, each in self.trials.items() if each.holder == worker), None)

    def any_trial(self, worker: int) -> int | None:
        """The worker's own trial, or else another's, which it must not be able to touch."""
        mine = self.held_by(worker)
        return mine if mine is not None else next(iter(self.trials), None)


def test_the_claim_and_the_lease_behave_like_a_simple_model(url: str) -> None:
    database = Database(url)
    prepare(database)
    # A server that has just started takes nothing back before a grace period has passed.
    database.execute(
        "SELECT pg_sleep(greatest(0, %(grace)s + 1 - "
        "extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())))",
        {"grace": GRACE_SECONDS},
    )
    database.close()
    ClaimModel.url = url
    run_state_machine_as_test(
        ClaimModel,
        settings=settings(
            max_examples=int(os.environ.get("ORCH_MODEL_EXAMPLES", "40")),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
