"""The claim: which trial a worker may run, and how it gives it up. Each call is one transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from psycopg2.extras import Json

from orchestrator.search.plan import Step
from orchestrator.storage.database import Database
from orchestrator.storage.setup import ORCH_VERSION

Outcome = Literal["trial", "plan", "wait", "done", "timeout", "drained", "failed", "gone", "schema"]


@dataclass(frozen=True)
class Claim:
    """The answer to a worker that asks for work; ``functions.sql`` lists the outcomes."""

    outcome: Outcome
    trial_id: int | None
    detail: str | None


class Claims:
    """The trials of one study, as one worker takes and ends them."""

    def __init__(self, database: Database, study_id: int, worker_id: UUID) -> None:
        self._database = database
        self._study_id = study_id
        self._worker_id = worker_id

    def join(self, name: str) -> None:
        """Register the worker under a name for people."""
        self._database.rows(
            "join_worker", worker_id=self._worker_id, study_id=self._study_id, name=name
        )

    def leave(self) -> None:
        """Sign off: the worker no longer counts as alive."""
        self._database.rows("leave_worker", worker_id=self._worker_id)

    def claim(self) -> Claim:
        """Take a trial: the budget is checked and the trial leased in the same transaction."""
        row = self._database.row(
            "claim_trial",
            study_id=self._study_id,
            worker_id=self._worker_id,
            version=ORCH_VERSION,
        )
        assert row is not None
        return Claim(**row)

    def exhaust(self, reason: str, stage: int | None) -> None:
        """The search has ended by itself: no further trial starts.

        Args:
            reason: why, for people.
            stage: the stage at which a plan had nothing left; trials that were queued since then
                keep the study open. None: whatever the stage.
        """
        self._database.rows("exhaust_study", study_id=self._study_id, reason=reason, stage=stage)

    def advance(self, step: Step, stage: int) -> bool:
        """Do what a plan wants.

        Returns:
            False: another worker has done what the plan wanted at this stage.
        """
        row = self._database.row(
            "advance_plan",
            study_id=self._study_id,
            stage=stage,
            configurations=Json([configuration for configuration, _ in step.queue]),
            attributes=Json([attributes for _, attributes in step.queue]),
            promote=step.promote,
            prune=step.prune,
        )
        return bool(row and row["advanced"])

    def pause(self, trial_id: int) -> bool:
        """The trial has ended its round; it waits, with its checkpoint, for a promotion.

        Returns:
            False: the lease is gone; nothing was written.
        """
        return self._held("pause_trial", trial_id=trial_id)

    def renew(self) -> set[int]:
        """A sign of life. Returns the trials that the worker still holds."""
        rows = self._database.rows("renew_leases", worker_id=self._worker_id)
        return {row["trial_id"] for row in rows}

    def report(self, trial_id: int, values: Mapping[int, float]) -> bool:
        """Record intermediate values by step; repeating it changes nothing.

        Returns:
            False: the lease is gone; nothing was written.
        """
        stored = [_stored(value) for value in values.values()]
        return self._held(
            "report_values",
            trial_id=trial_id,
            steps=list(values),
            values=[value for value, _ in stored],
            types=[kind for _, kind in stored],
        )

    def save_checkpoint(
        self, trial_id: int, step: int, artifact_id: str, sha256: str
    ) -> tuple[bool, list[str]]:
        """Record a checkpoint that is whole in its store.

        Returns:
            Whether the lease is held, and the artifacts that are no longer needed.
        """
        rows = self._database.rows(
            "save_checkpoint",
            trial_id=trial_id,
            worker_id=self._worker_id,
            step=step,
            artifact_id=artifact_id,
            sha256=sha256,
        )
        return all(row["held"] for row in rows), [row["artifact_id"] for row in rows]

    def checkpoints(self, trial_id: int) -> list[tuple[str, int, str]]:
        """The trial's checkpoints, newest first: artifact, step, SHA-256."""
        rows = self._database.rows("checkpoints_of_trial", trial_id=trial_id)
        return [(row["artifact_id"], row["step"], row["sha256"]) for row in rows]

    def resume(self, trial_id: int, step: int) -> bool:
        """Training goes on after ``step`` (-1: from the start); later values are dropped.

        Returns:
            False: the lease is gone.
        """
        return self._held("resume_trial", trial_id=trial_id, step=step)

    def is_model_wanted(self, value: float, keep: int) -> bool:
        """Whether a trial of this value is among the best ``keep`` so far."""
        row = self._database.row("is_model_wanted", study_id=self._study_id, value=value, keep=keep)
        return bool(row and row["wanted"])

    def keep_model(self, trial_id: int, artifact_id: str, sha256: str, keep: int) -> list[str]:
        """Keep the models of the best ``keep`` trials. Returns the artifacts that fall out."""
        rows = self._database.rows(
            "keep_model", trial_id=trial_id, artifact_id=artifact_id, sha256=sha256, keep=keep
        )
        return [row["artifact_id"] for row in rows]

    def finish(
        self,
        trial_id: int,
        state: Literal["COMPLETE", "PRUNED"],
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
    ) -> bool:
        """End the trial.

        Args:
            trial_id: Optuna's id of the trial.
            state: how it ended.
            values: one for each metric; None for a pruned trial that reported nothing.
            attributes: user attributes to record with it.

        Returns:
            False: the lease is gone; nothing was written.
        """
        stored = [_stored(value) for value in values or ()]
        return self._held(
            "finish_trial",
            trial_id=trial_id,
            state=state,
            values=[value for value, _ in stored],
            types=[kind for _, kind in stored],
            attributes=Json(dict(attributes)),
        )

    def fail(self, trial_id: int, reason: str, attributes: Mapping[str, Any]) -> bool:
        """End the attempt as failed; its retry is queued in the same transaction.

        Returns:
            False: the lease is gone; nothing was written.
        """
        return self._held(
            "fail_trial", trial_id=trial_id, reason=reason, attributes=Json(dict(attributes))
        )

    def give_back(self, trial_id: int) -> bool:
        """Return the trial to the queue: an orderly leave is no failed attempt.

        Returns:
            False: the lease is gone; nothing was written.
        """
        return self._held("give_back_trial", trial_id=trial_id)

    def held(self) -> list[int]:
        """The trials leased to this worker."""
        rows = self._database.rows("leases_of_worker", worker_id=self._worker_id)
        return [row["trial_id"] for row in rows]

    def _held(self, query: str, **parameters: Any) -> bool:
        row = self._database.row(query, worker_id=self._worker_id, **parameters)
        return bool(row and row["held"])


def _stored(value: float) -> tuple[float | None, str]:
    # Optuna's representation of what SQL's own floats would not sort with the rest.
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return value, "FINITE"
