"""Equipment: what a worker has for all of its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.storage.claims import Claims
from orchestrator.worker.checkpoints import CheckpointWriter, UnfinishedTrials
from orchestrator.worker.reporter import Reporter

if TYPE_CHECKING:
    from orchestrator.base.optuna_internals import ArtifactStore


@dataclass(frozen=True)
class Equipment:
    """What a worker lends to each of its trials.

    Attributes:
        claims: the worker's claims.
        reporter: delivers values.
        writer: writes checkpoints.
        store: has the checkpoints.
        unfinished: this machine's disk, for when the database stays away.
        patience_seconds: how long a trial goes on without the database.
        keep_models: how many models of the best trials are kept.
        constraints: user attributes that are constraints when a trial ends.
        leaving: tells whether the worker was asked to leave.
        cursor: from where changes are to be asked for; None: they are not.
    """

    claims: Claims
    reporter: Reporter
    writer: CheckpointWriter
    store: ArtifactStore
    unfinished: UnfinishedTrials
    patience_seconds: float
    keep_models: int
    constraints: tuple[str, ...]
    leaving: Callable[[], bool]
    cursor: Callable[[], str | None]
