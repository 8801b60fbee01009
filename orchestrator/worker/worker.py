"""The worker's loop: claim a trial, run it, end it, take the next."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from optuna.trial import FrozenTrial

from orchestrator.base.backoff import Pause, patiently
from orchestrator.errors import StorageError, StudyFailed, UsageError, WrongUse
from orchestrator.resolve.objective import (
    facts_of,
    full_steps,
    make_objective,
    search_space,
    useful_threads,
)
from orchestrator.resolve.pins import check_data
from orchestrator.search.plans.promotion import pause_after
from orchestrator.search.pruners import build_pruner
from orchestrator.search.samplers import build_sampler
from orchestrator.storage.artifacts import open_artifacts
from orchestrator.storage.claims import Claim, Claims
from orchestrator.storage.connection import answer_within
from orchestrator.storage.database import Database
from orchestrator.storage.studies import open_study, store_facts
from orchestrator.storage.url import mask
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.worker.attempt import Attempt
from orchestrator.worker.checkpoints import CheckpointWriter, UnfinishedTrials
from orchestrator.worker.domains import SpecDomains
from orchestrator.worker.equipment import Equipment
from orchestrator.worker.planner import Planner
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.seeds import derive, first_number, training_seed
from orchestrator.worker.study import WorkerStudy
from orchestrator.worker.trial import WorkerTrial

_log = logging.getLogger("orch")

_START_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class WorkerOptions:
    """How one worker process behaves.

    Attributes:
        worker_id: who it is in the database.
        threads: CPU threads that it may use; None: not limited.
        stay: wait for more budget when the study is done, instead of leaving.
        timeout: seconds after which it takes no further trial; None: none.
    """

    worker_id: UUID
    threads: int | None = None
    stay: bool = False
    timeout: float | None = None


class Worker:
    """One process's part in a study."""

    def __init__(self, url: str, study_name: str, options: WorkerOptions) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._options = options
        self._database = Database(url)
        # Its supervisor has seen the study: a database that is away now comes back.
        self._study = patiently(
            lambda: open_study(self._database, study_name), _START_PATIENCE_SECONDS
        )
        # A silent connection must be given up while the lease can still be saved.
        answer_within(min(30.0, max(1.0, self._study.spec.worker.grace_seconds / 3)))
        self._claims = Claims(self._database, self._study.study_id, options.worker_id)
        self._objective = make_objective(self._study.spec)
        self._space = search_space(self._study.spec, self._objective)
        self._domains = SpecDomains(self._study.spec.space, not self._objective.space())
        self._threads = options.threads
        self._storage: WorkerStorage | None = None
        self._deadline = _deadline(options.timeout)
        self.leaving = False

    @property
    def objective(self) -> str:
        """What the study runs, as its spec names it."""
        return self._study.spec.study.objective

    @property
    def study_id(self) -> int:
        return self._study.study_id

    @property
    def worker_id(self) -> UUID:
        return self._options.worker_id

    def leave(self) -> None:
        """Ask the worker to end: after the value that its trial reports next, at the latest."""
        self.leaving = True

    def run(self) -> None:
        """Work until the study is done, the worker was asked to leave, or its time is up.

        Raises:
            StudyFailed: the study failed, or this machine cannot do its work.
            UsageError: the study is used wrongly, so that no trial can succeed.
            StorageError: the database is out of reach.
        """
        check_data(self._study, self._objective)
        self._complete_facts()
        self._threads = useful_threads(self._objective, self._space, self._options.threads)
        self._objective.prepare(self._threads)
        spec = self._study.spec
        patience = spec.worker.storage_patience
        patiently(lambda: self._claims.join(self.name), patience, lambda: self.leaving)
        with self._equipped() as equipment:
            pruner = build_pruner(spec, full_steps(spec, self._objective))
            optuna_study = patiently(
                lambda: WorkerStudy(self._study.name, self._open(equipment), pruner=pruner),
                patience,
                lambda: self.leaving,
            )
            try:
                self._take_trials(optuna_study, equipment)
            finally:
                with contextlib.suppress(StorageError):
                    self._claims.return_next()
                    self._claims.leave()

    def _complete_facts(self) -> None:
        """Store what a study of an older orch lacks, so that its reports are whole everywhere."""
        if self._study.facts.space is None:
            with contextlib.suppress(StorageError):  # this role may not, or the next worker does
                facts = facts_of(self._study.spec, self._objective)
                store_facts(self._database, self._study, facts)

    def _open(self, equipment: Equipment) -> WorkerStorage:
        """What the sampler and the pruner read and write."""
        self._storage = WorkerStorage(self._database, self.study_id, equipment.reporter)
        equipment.reporter.feed(self._storage)
        return self._storage

    @contextmanager
    def _equipped(self) -> Iterator[Equipment]:
        """The reporter and the checkpoint writer at work, each on a connection of its own."""
        settings, url = self._study.spec.worker, self._database.url
        beside = Database(url)
        store = open_artifacts(settings.artifacts, beside, settings.artifact_limit_mb)
        reporter = Reporter(url, self.study_id, self.worker_id, settings.heartbeat_seconds)
        writer = CheckpointWriter(
            Claims(beside, self.study_id, self.worker_id),
            store,
            settings.checkpoint_seconds,
            reporter.undelivered,
        )
        with reporter, writer:
            yield Equipment(
                claims=self._claims,
                reporter=reporter,
                writer=writer,
                store=open_artifacts(
                    settings.artifacts, self._database, settings.artifact_limit_mb
                ),
                unfinished=UnfinishedTrials(f"{self._study.name}/{self._study.created_at}"),
                patience_seconds=settings.storage_patience,
                keep_models=settings.keep_models,
                constraints=self._study.spec.study.constraints,
                leaving=lambda: self.leaving,
                cursor=lambda: self._storage.cursor if self._storage else None,
            )
        reporter.close()
        beside.close()

    def _take_trials(self, optuna_study: WorkerStudy, equipment: Equipment) -> None:
        pause = Pause()
        planner = Planner(self._study.spec, self._objective, self._space, optuna_study, equipment)
        while not self._must_end():
            claim = self._claim(equipment)
            if claim.outcome == "trial":
                self._run_trial(optuna_study, claim, planner, equipment)
                planner.end_search(optuna_study.ends_because)
                pause.reset()
            elif claim.outcome == "plan":
                assert claim.detail is not None
                stage, budget = map(int, claim.detail.split())
                if not planner.plan(stage, budget):
                    pause.wait(lambda: self.leaving)
            elif claim.outcome == "schema":
                raise StorageError(
                    f"the schema at {mask(self._database.url)} is now of another orch version; "
                    "this worker ends"
                )
            elif claim.outcome == "failed":
                raise StudyFailed(f"study '{self._study.name}' failed: {claim.detail}")
            elif claim.outcome == "misused":
                raise self._misused(claim.detail)
            elif claim.outcome == "gone":
                raise StudyFailed(f"study '{self._study.name}' was deleted; this worker ends")
            elif claim.outcome == "wait" or (
                self._options.stay and claim.outcome in ("done", "timeout")
            ):
                pause.wait(lambda: self.leaving)
            else:
                return

    def _claim(self, equipment: Equipment) -> Claim:
        claim = patiently(
            lambda: self._claims.claim(equipment.cursor()),
            equipment.patience_seconds,
            lambda: self.leaving,
        )
        if self._storage is not None and claim.changes is not None:
            self._storage.take(claim.changes, claim.end)
        return claim

    def _misused(self, reason: str | None) -> UsageError:
        # The same words in every worker, so that they are said once.
        return UsageError(f"study '{self._study.name}' is stopped: {reason}")

    def _must_end(self) -> bool:
        return self.leaving or time.monotonic() >= self._deadline

    def _run_trial(
        self,
        optuna_study: WorkerStudy,
        claim: Claim,
        planner: Planner,
        equipment: Equipment,
    ) -> None:
        trial_id = claim.trial_id
        assert trial_id is not None
        try:
            frozen = patiently(lambda: self._begin(trial_id), equipment.patience_seconds)
        except KeyError:
            return  # the study was deleted after the claim; the next claim says so

        def takes_next() -> bool:
            search_may_end = planner.may_end_search or optuna_study.ends_because
            return not (search_may_end or self._must_end())

        facts = {"orch:worker": self.name, "orch:threads": self._threads}
        attempt = Attempt(equipment, self._objective, facts, trial_id, frozen.number, takes_next)
        fresh = claim.detail == "fresh"
        try:
            attempt.run(lambda: self._make_trial(optuna_study, frozen, fresh, planner, equipment))
        except WrongUse as error:
            raise self._misused(str(error)) from error
        finally:
            if self._storage is not None:
                self._storage.end()

    def _make_trial(
        self,
        optuna_study: WorkerStudy,
        frozen: FrozenTrial,
        fresh: bool,
        planner: Planner,
        equipment: Equipment,
    ) -> WorkerTrial:
        spec, brackets = self._study.spec, planner.brackets
        # As Study.ask does: samplers read the trials of this moment, not those of the last.
        optuna_study.forget_trials()
        optuna_study.sampler = build_sampler(
            spec, derive(spec.training.seed, "sampler", frozen.number)
        )
        return WorkerTrial(
            optuna_study,
            frozen._trial_id,
            self._objective,
            self._space,
            self._domains,
            seed=training_seed(spec.training.seed, frozen),
            first_number=first_number(frozen),
            pause_after=None if brackets is None else pause_after(frozen, brackets),
            fresh=fresh,
            equipment=equipment,
        )

    def _begin(self, trial_id: int) -> FrozenTrial:
        assert self._storage is not None
        return self._storage.begin(trial_id)


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout
