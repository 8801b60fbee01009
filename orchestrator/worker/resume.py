"""Resuming: training continues from a trial's newest state, in the store or on this disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from optuna.exceptions import UpdateFinishedTrialError

from orchestrator.base import facts
from orchestrator.base.optuna_internals import RUNG
from orchestrator.storage.claims import Claim, Claims
from orchestrator.storage.storable import Logs, logs_document, logs_from
from orchestrator.worker.checkpoints import (
    Arrays,
    Checkpoint,
    Checkpoints,
    Place,
    drawn_values,
    place,
    saved_params,
)
from orchestrator.worker.endings import End, LeaseLost
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.seeds import first_number
from orchestrator.worker.study import WorkerStudy
from orchestrator.worker.suggestion import SuggestingTrial

_log = logging.getLogger("orch")

Capture = Callable[[], Mapping[str, NDArray[Any]]]


class ResumableTrial(SuggestingTrial):
    """A trial that another worker may have trained before.

    Args:
        study: the study with its space, sampler and pruner.
        claim: the claim that brought it.
        claims: the worker's.
        reporter: sends what it writes.
        checkpoints: has its state.

    Attributes:
        first_number: the number of the first attempt at its configuration.
        restarts: where training resumed from a checkpoint; a replay does the same.
        seconds_before: what the training up to that checkpoint took.
    """

    def __init__(
        self,
        study: WorkerStudy,
        claim: Claim,
        claims: Claims,
        reporter: Reporter,
        checkpoints: Checkpoints,
    ) -> None:
        assert claim.trial_id is not None
        trial = study.storage.start_trial(claim.trial_id, reporter)
        super().__init__(study, trial)
        self._is_fresh = bool(claim.is_fresh)
        self._claims = claims
        self._reporter = reporter
        self._checkpoints = checkpoints
        self.first_number = first_number(trial)
        self._started = time.monotonic()
        self.restarts: list[Place] = []
        self._logs: Logs = {}  # of this attempt
        self.seconds_before = 0.0

    @property
    def values(self) -> dict[int, float]:
        """Every value reported so far, by step, delivered or not."""
        return dict(self.frozen.intermediate_values)

    @property
    def seconds(self) -> float:
        """How long it has trained."""
        return self.seconds_before + time.monotonic() - self._started

    def restore(self) -> tuple[int, Arrays] | None:
        """The state to resume from: the last step in it, and its arrays. None: from the start.

        Raises:
            LeaseLost: the trial is no longer this worker's.
        """
        self._check_running()
        if self._is_fresh and not self.values:
            return None
        found, here = self._checkpoints.load_newest(self.id), self._load_saved()
        if here is not None and (found is None or here.step > found.step):
            found = here
        step = -1 if found is None else found.step
        if not self._claims.resume(self.id, step):
            raise LeaseLost
        self._forget_values_after(step)
        if found is None:
            return None
        for each, value in found.facts.get("values", {}).items():
            self._take_over(int(each), value)
        self._send_logs(logs_from(found.facts.get("logs", []), step))
        self.seconds_before = float(found.facts.get("seconds", 0.0))
        self.restarts = [*found.facts.get("restarts", []), place(step, found.arrays)]
        _log.info("trial %d goes on after step %d", self.number, step)
        return step, found.arrays

    def _check_running(self) -> None:
        """Refuse what an objective does with the trial of another call.

        Raises:
            UpdateFinishedTrialError: the trial has ended, as in Optuna.
        """
        if not self._reporter.is_running(self.id):
            raise UpdateFinishedTrialError(f"trial {self.number} has ended; it cannot be changed")

    def _take_over(self, step: int, value: float) -> None:
        """A value that an earlier attempt reported, and the pruner has seen."""
        reported = self.frozen.intermediate_values
        if step not in reported:
            reported[step] = value
            self._reporter.post(step, value)

    def _send_logs(self, logs: Logs) -> None:
        self._logs.update(logs)
        self._reporter.log(logs)

    def _forget_values_after(self, step: int) -> None:
        self._logs = {}
        values = self.frozen.intermediate_values
        for late in [each for each in values if each > step]:
            del values[late]
        attributes = self.frozen.system_attrs
        for rung in [key for key in attributes if step < 0 and key.startswith(RUNG)]:
            del attributes[rung]

    def _capture(self, step: int, capture: Capture) -> Checkpoint:
        so_far = {"restarts": self.restarts, "seconds": self.seconds}
        return Checkpoint(step, dict(capture()), so_far)

    # On this machine's disk, while the database is away

    def _save_here(self, state: Checkpoint) -> None:
        facts = {**state.facts, "logs": logs_document(self._logs)}
        self._checkpoints.saved.save(self.first_number, self.frozen, replace(state, facts=facts))

    def _load_saved(self) -> Checkpoint | None:
        """What an earlier worker of this machine has saved of this configuration.

        Parameters that the database lacks are taken over. If others were drawn meanwhile, it is
        another configuration, and there is nothing.
        """
        found = self._checkpoints.saved.load(self.first_number)
        if found is None:
            return None
        saved = saved_params(found)
        if not self.params:
            for name, (value, domain) in saved.items():
                self.storage.set_trial_param(self.id, name, value, domain)
        drawn = drawn_values(self.frozen)
        if saved and {name: value for name, (value, _) in saved.items()} != drawn:
            _log.warning("trial %d: what is kept here has other parameters", self.number)
            return None
        return found

    def _remove_saved(self) -> None:
        self._checkpoints.saved.remove(self.first_number)

    def _save_end(self, end: End) -> None:
        """Save how the trial ended, with what the objective has set beside values."""
        trial = self.frozen
        attributes = trial.user_attrs.items()
        own = {key: value for key, value in attributes if not key.startswith(facts.PREFIX)}
        noted = {"attributes": own, "constraints": trial.constraints}
        last = {
            "state": end.state, "values": end.values, "attributes": end.attributes, "noted": noted,
        }  # fmt: skip
        self._save_here(Checkpoint(max(self.values, default=0), {}, {"end": last}))

    def _saved_end(self) -> End | None:
        """The end that an earlier worker of this machine could not deliver."""
        saved = self._load_saved()
        if saved is None or "end" not in saved.facts:
            return None
        self.restore()
        end = saved.facts["end"]
        noted = end.get("noted", {})
        for key, value in noted.get("attributes", {}).items():
            self.set_user_attr(key, value)
        for key, value in noted.get("constraints", {}).items():
            self.set_constraint(key, value)
        return End(end["state"], end["values"], end["attributes"])
