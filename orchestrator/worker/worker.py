"""The worker: claim a trial, run it, plan, repeat; and end the search where nothing is left."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from orchestrator.base import facts
from orchestrator.base.backoff import Backoff, Stop, retry
from orchestrator.errors import StorageError, StudyFailed
from orchestrator.resolve.objective import (
    facts_of,
    full_steps,
    make_objective,
    search_space,
    useful_threads,
)
from orchestrator.resolve.pins import check_data
from orchestrator.resolve.warm_start import copied_trials
from orchestrator.search.older_trials import OlderTrials
from orchestrator.search.plans import build_plan
from orchestrator.search.plans.plan import is_open
from orchestrator.search.terminators import is_over
from orchestrator.storage.artifacts import open_artifacts
from orchestrator.storage.claims import Claim, Claims
from orchestrator.storage.connection import answer_seconds, answer_within
from orchestrator.storage.database import Database
from orchestrator.storage.studies import open_study, store_facts
from orchestrator.storage.url import mask
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.training.base import Objective
from orchestrator.worker.checkpoints import Checkpoints, SavedTrials
from orchestrator.worker.endings import TrialInterrupted, stopped_study
from orchestrator.worker.output import Marks
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.study import ALL_TRIED, WorkerStudy
from orchestrator.worker.suggestion import Configurations
from orchestrator.worker.trial import Trial

_log = logging.getLogger("orch")

_START_PATIENCE_SECONDS = 600.0
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.1, 2.0


@dataclass(frozen=True)
class WorkerOptions:
    """How one worker process behaves.

    Attributes:
        token: proves who it is (``workers.sql``).
        threads: CPU threads that it may use; None: not limited.
        stay: wait for more budget when the study is done, instead of leaving.
        timeout: seconds after which it takes no further trial; None: none.
        marks: tell the supervisor which part of the output is of which trial.
    """

    token: UUID
    threads: int | None = None
    stay: bool = False
    timeout: float | None = None
    marks: Marks = field(default_factory=Marks)


class Worker:
    """One process's part in a study.

    Three threads share one connection, which the lock in ``Database`` guards for one statement:
    this one, the reporter's and the checkpoints'. No lock is held while another one is waited for.
    Each class says which lock guards which of its fields.
    ``stop`` is one bool that a signal handler or another thread sets, once; it is read without a
    lock, at the latest one report later.
    """

    def __init__(self, url: str, study_name: str, options: WorkerOptions) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        seconds = math.inf if options.timeout is None else options.timeout
        self.stop = Stop(time.monotonic() + seconds)
        self._options = options
        self._database = Database(url)
        # Its supervisor has seen the study: a database that is away now comes back.
        self._stored = retry(
            partial(open_study, self._database, study_name), _START_PATIENCE_SECONDS
        )
        settings = self._stored.spec.worker
        # A silent connection must be given up while the lease can still be saved.
        answer_within(min(30.0, max(1.0, settings.grace_seconds / 3)))
        self._claims = Claims(
            self._database,
            self._stored.study_id,
            options.token,
            settings.storage_patience,
            self.stop,
        )
        self._objective = make_objective(self._stored.spec)

    @property
    def objective(self) -> str:
        """What the study runs, as its spec names it."""
        return self._stored.spec.study.objective

    @property
    def study_id(self) -> int:
        return self._stored.study_id

    @property
    def token(self) -> UUID:
        return self._options.token

    def leave(self) -> None:
        """Ask the worker to end: after the value that its trial reports next, at the latest."""
        self.stop.asked = True

    @property
    def leaving(self) -> bool:
        """Whether it was asked to end."""
        return self.stop.asked

    def run(self) -> None:
        """Work until the study is done, the worker was asked to leave, or its time is up.

        Raises:
            StudyFailed: the study failed, or this machine cannot do its work.
            UsageError: the study is used wrongly, so that no trial can succeed.
            StorageError: the database is out of reach.
        """
        threads = self._prepare()
        self._claims.join(self.name)
        settings = self._stored.spec.worker
        storage = self._open_storage()
        reporter = Reporter(self._claims, storage, settings.heartbeat_seconds)
        checkpoints = Checkpoints(
            self._claims,
            open_artifacts(settings.artifacts, self._database, settings.artifact_limit_mb),
            SavedTrials(f"{self._stored.name}/{self._stored.created_at}"),
            settings.checkpoint_seconds,
            reporter,
        )
        try:
            with reporter, checkpoints:
                self._work(storage, threads, reporter, checkpoints)
        finally:
            self._database.close()

    def _work(
        self,
        storage: WorkerStorage,
        threads: int | None,
        reporter: Reporter,
        checkpoints: Checkpoints,
    ) -> None:
        study = WorkerStudy(self._stored, self._objective, storage, self._older_trials(storage))
        planner = _Planner(study, self._objective, self._claims, checkpoints)
        configurations = Configurations(study, self._objective, self._claims)
        recorded = {facts.WORKER: self.name, facts.THREADS: threads}
        polls = Backoff(_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS)
        next_claim: Claim | None = None
        try:
            while not self.stop.is_due:
                claim, next_claim = next_claim or self._claims.claim(storage.position), None
                if claim.changes is not None:
                    storage.take(claim.changes)
                if claim.outcome == "trial":
                    trial = Trial(
                        study,
                        claim,
                        self._objective,
                        self._claims,
                        reporter,
                        checkpoints,
                        self.stop,
                        recorded,
                        configurations,
                    )
                    self._options.marks.begin(trial.id)
                    try:
                        next_claim = trial.run()
                    finally:
                        self._options.marks.end()
                    planner.end_search()
                    polls.reset()
                elif claim.outcome == "plan":
                    assert claim.stage is not None and claim.budget is not None
                    if not planner.advance(claim.stage, claim.budget):
                        self._pause(polls)
                elif self._has_to_wait(claim):
                    self._pause(polls)
                else:
                    return
        finally:
            # A trial that came with the end of another one and has not begun is released.
            with contextlib.suppress(StorageError):
                self._claims.leave(next_claim)

    def _pause(self, polls: Backoff) -> None:
        """Wait for work, without a connection."""
        self._database.close()
        polls.wait(self.stop)

    def _has_to_wait(self, claim: Claim) -> bool:
        """Whether a claim without work may bring some later. False: the study is done.

        Raises:
            StudyFailed: it failed, or was deleted.
            UsageError: it is stopped for wrong use.
            StorageError: the schema is no longer this worker's.
        """
        name = self._stored.name
        if claim.outcome == "schema":
            raise StorageError(
                f"the schema at {mask(self._database.url)} is now of another orch version; "
                "this worker ends"
            )
        if claim.outcome == "failed":
            raise StudyFailed(f"study '{name}' failed: {claim.reason}")
        if claim.outcome == "misused":
            raise stopped_study(name, claim.reason)
        if claim.outcome == "gone":
            raise StudyFailed(f"study '{name}' was deleted; this worker ends")
        return claim.outcome == "wait" or (
            self._options.stay and claim.outcome in ("done", "timeout")
        )

    def _prepare(self) -> int | None:
        """Get this process ready to train. Returns the CPU threads that a trial uses."""
        spec, objective = self._stored.spec, self._objective
        check_data(self._stored, objective)
        if self._stored.facts.space is None:
            # A study of an older orch lacks them; so its reports are whole everywhere.
            with contextlib.suppress(StorageError):  # this role may not, or the next worker does
                store_facts(self._database, self._stored, facts_of(spec, objective))
        threads = useful_threads(objective, search_space(spec, objective), self._options.threads)
        objective.prepare(threads)
        return threads

    def _open_storage(self) -> WorkerStorage:
        patience = self._stored.spec.worker.storage_patience
        call = partial(WorkerStorage, self._database, self._stored.study_id, patience)
        return retry(call, patience, self.stop)

    def _older_trials(self, storage: WorkerStorage) -> list[OlderTrials]:
        """What the study took along of older ones."""
        if not self._stored.spec.study.warm_start:
            return []
        call = partial(storage.get_study_system_attrs, self._stored.study_id)
        patience = self._stored.spec.worker.storage_patience
        return list(copied_trials(retry(call, patience, self.stop)).values())


class GuestWorker(Worker):
    """Runs the trials of a study in this thread. Ctrl-C gives the trial back, and ends the worker.

    Args:
        url: the database.
        study_name: the study.
        timeout: seconds after which it takes no further trial; None: none.
    """

    def __init__(self, url: str, study_name: str, timeout: float | None) -> None:
        self._seconds_before = answer_seconds()
        super().__init__(url, study_name, WorkerOptions(uuid4(), timeout=timeout))
        self._objective: Any = _Interruptible(self._objective, self.stop)

    def run(self) -> None:
        """Work until the study is done; see :meth:`Worker.run`.

        Raises:
            KeyboardInterrupt: it was interrupted; its trial is given back.
        """
        try:
            super().run()
        finally:
            answer_within(self._seconds_before)  # the caller's own studies wait as they did
        if self.leaving:
            raise KeyboardInterrupt


class _Interruptible:
    """An objective that a KeyboardInterrupt ends as a worker leaves: it costs no attempt."""

    def __init__(self, objective: Objective, stop: Stop) -> None:
        self._objective = objective
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def __call__(self, trial: Any) -> Any:
        try:
            return self._objective(trial)
        except KeyboardInterrupt:
            self._stop.asked = True
            raise TrialInterrupted from None


class _Planner:
    """Asks the study's plan and its terminator, and sends their answers to the server.

    Args:
        study: the study, with its trials and its terminator.
        objective: its objective.
        claims: the worker's.
        checkpoints: has those of the trials that a plan ends.
    """

    def __init__(
        self, study: WorkerStudy, objective: Objective, claims: Claims, checkpoints: Checkpoints
    ) -> None:
        steps = full_steps(study.spec, objective)
        self._plan = build_plan(study.spec, study.space, objective.exists, steps)
        self._study = study
        self._claims = claims
        self._checkpoints = checkpoints
        self._has_warned = False

    def advance(self, stage: int, budget: int) -> bool:
        """Do what the plan wants next, unless another worker does it first.

        Args:
            stage: the study's stage when its queue was found empty.
            budget: how many trials the study ends with.

        Returns:
            Whether there may be work now.
        """
        assert self._plan is not None
        trials = self._study.get_trials(deepcopy=False)
        step = self._plan.step(trials, budget)
        if step:
            needless = [
                artifact_id
                for trial_id in step.prune
                for artifact_id in self._checkpoints.artifacts_of(trial_id)
            ]
            if self._claims.advance(stage, step.queue, step.promote, step.prune):
                self._checkpoints.remove(needless)
        elif not is_open(trials):
            self._claims.exhaust(ALL_TRIED, stage)
        return bool(step)

    def end_search(self) -> None:
        """End the study when its sampler or its objective says so, or no gain is expected."""
        if self._study.ends_because is not None:
            self._claims.exhaust(self._study.ends_because, None)
        elif self._study.terminator is not None and self._expects_no_gain():
            self._claims.exhaust("no worthwhile gain is expected", None)

    def _expects_no_gain(self) -> bool:
        """What the terminator says; one that cannot judge these trials ends no search."""
        assert self._study.terminator is not None
        try:
            with np.errstate(all="ignore"):  # the objective may let NumPy raise
                return is_over(self._study.terminator, self._study, self._study.spec)
        except StorageError:
            raise
        except Exception as error:  # whatever Optuna's evaluators, or their libraries, raise
            if not self._has_warned:
                _log.warning("the terminator cannot judge these trials: %s", error)
            self._has_warned = True
            return False
