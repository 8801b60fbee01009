"""The model that a trial offers: stored when the trial ends among the study's best."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial

from orchestrator.errors import StorageUnavailable
from orchestrator.spec.eligibility import feasible, known_infeasible
from orchestrator.spec.model import StudySpec
from orchestrator.storage.artifacts import remove_artifacts, write_artifact
from orchestrator.storage.claims import Claims
from orchestrator.worker.endings import own_files

if TYPE_CHECKING:
    from orchestrator.base.optuna_internals import ArtifactStore

_log = logging.getLogger("orch")


class OfferedModel:
    """One trial's model.

    The trial is worth more than its model: nothing here waits for the database.

    Args:
        claims: the worker's.
        store: where models go.
        spec: says how many are kept, and which attributes are constraints.
    """

    def __init__(self, claims: Claims, store: ArtifactStore, spec: StudySpec) -> None:
        self._claims = claims
        self._store = store
        self._count = spec.worker.keep_models
        self._constraints = spec.study.constraints
        self._content: bytes | None = None

    def offer(self, trial: FrozenTrial, value: float, save: Callable[[Path], object]) -> None:
        """Take the model, if its trial may be among the best.

        Args:
            trial: the trial as it is now.
            value: which it is going to end with.
            save: writes the model to a file; called only when it may be stored.

        Raises:
            MachineFault: this machine's disk does not take the file.
        """
        # As far as is known: a constraint may be set later, up to the trial's end.
        if not math.isfinite(value) or known_infeasible(trial, self._constraints):
            return
        try:
            if not self._claims.is_model_wanted(value, self._count):
                return
        except StorageUnavailable:
            return
        with own_files("the model"), tempfile.TemporaryDirectory(prefix="orch-") as folder:
            path = Path(folder) / "model.keras"
            try:
                save(path)
            except OSError:
                raise
            except Exception as error:  # whatever the objective raises; the trial has ended well
                _log.warning("the model of trial %d cannot be saved: %s", trial.number, error)
            if path.exists():  # a model that cannot be saved costs the trial nothing else
                self._content = path.read_bytes()

    def store(self, trial: FrozenTrial) -> None:
        """Store what was offered, once the trial is COMPLETE, unless a constraint forbids it."""
        # orch.keep_model would drop the others again, after all their bytes were written.
        if self._content is None or feasible(trial, self._constraints) is False:
            return
        try:
            artifact_id, digest = write_artifact(self._store, self._content)
            fallen = self._claims.keep_model(trial._trial_id, artifact_id, digest, self._count)
            remove_artifacts(self._store, fallen)
        except Exception as error:  # whatever a store raises; the trial itself has ended well
            _log.warning("the model of trial %d is not kept: %s", trial.number, error)
