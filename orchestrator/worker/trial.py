"""WorkerTrial: the Optuna trial that an objective is given."""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.backoff import patiently
from orchestrator.base.optuna_internals import RUNG, HookedTrial
from orchestrator.errors import StorageUnavailable
from orchestrator.search.halving import noted_rung, reads_others
from orchestrator.search.space import Space
from orchestrator.search.substitution import as_suggested
from orchestrator.spec.choices import internal, place_of, read_domain
from orchestrator.spec.eligibility import feasible, known_infeasible
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.storable import check_step
from orchestrator.training.base import Objective
from orchestrator.worker.checkpoints import Arrays, Checkpoint, Place, load_newest, place
from orchestrator.worker.domains import SpecDomains
from orchestrator.worker.endings import own_files
from orchestrator.worker.equipment import Equipment
from orchestrator.worker.leaving import DatabaseLost, LeaseLost, TrialInterrupted, TrialPaused
from orchestrator.worker.study import WorkerStudy
from orchestrator.worker.suggestion import check_enqueued, storable

_log = logging.getLogger("orch")

_FLUSH_SECONDS = 30.0


class WorkerTrial(HookedTrial):
    """An :class:`optuna.Trial` that survives the database, its process, and its machine.

    Args:
        study: the study with its sampler and pruner.
        trial_id: the claimed trial.
        objective: which is going to run.
        space: domains that stand in place of those that the objective suggests.
        domains: those of them that are the spec's.
        seed: the trial's own seed.
        first_number: the number of the first attempt at this configuration.
        pause_after: the step after which it waits for a promotion; None: it trains to its end.
        fresh: it is the first attempt, and no worker had it before.
        equipment: the worker's.

    Attributes:
        steps: how many values a full trial reports; None: unknown.
        checkpoints: whether the objective calls :meth:`checkpoint`.
    """

    def __init__(
        self,
        study: WorkerStudy,
        trial_id: int,
        objective: Objective,
        space: Space,
        domains: SpecDomains,
        seed: int,
        first_number: int,
        pause_after: int | None,
        fresh: bool,
        equipment: Equipment,
    ) -> None:
        super().__init__(study, trial_id)
        self._study = study
        self.seed = seed
        self.first_number = first_number
        self._space = space
        self._domains = domains
        self.steps = objective.steps()
        self._is_active = objective.is_active
        self._pause_after = pause_after
        self.checkpoints = objective.checkpoints
        self.fresh = fresh
        self._equipment = equipment
        self.has_reported = False  # by this attempt
        self._has_arrived = True  # the last value; without it nobody decides
        self.model: bytes | None = None
        # Where training went on from a checkpoint; a replay does the same.
        self.restarts: list[Place] = []
        # What the training up to that checkpoint took.
        self.seconds_before = 0.0
        self._started = time.monotonic()
        self._chosen: dict[str, Any] = {}  # the objective's own choices: a tuple, an enum

    @property
    def params(self) -> dict[str, Any]:
        return super().params | self._chosen

    def __copy__(self) -> WorkerTrial:
        return self  # a handle to the same trial, as a pruning callback holds it

    def __deepcopy__(self, _: dict[int, Any]) -> WorkerTrial:
        return self

    def __reduce__(self) -> tuple[Callable[..., optuna.Trial], tuple[str, int]]:
        return _open_elsewhere, (self.study.study_name, self._trial_id)

    def _check_current(self) -> None:
        """Refuse what an objective does with the trial of another call.

        Raises:
            UpdateFinishedTrialError: the trial has ended, as in Optuna.
        """
        if not self._equipment.reporter.is_running(self._trial_id):
            raise UpdateFinishedTrialError(f"trial {self.number} has ended; it cannot be changed")

    @property
    def values(self) -> dict[int, float]:
        """Every value reported so far, by step, delivered or not."""
        return dict(self.frozen.intermediate_values)

    def latest(self) -> FrozenTrial:
        # Optuna copies the trial at each call, and reads its attributes from the storage.
        return self.frozen

    def tell_sampler(self, state: TrialState, values: Sequence[float] | None) -> None:
        """Show to the sampler how the trial ends."""
        self._study.tell_sampler(self.storage.get_trial(self._trial_id), state, values)

    def suggest_space(self) -> None:
        """Draw every active parameter of the space, in its order."""
        for name, distribution in self._space.items():
            if self._is_active(name, self.params):
                self.suggest(name, distribution)

    def check_names(self) -> None:
        """Look whether the objective knows every parameter of the spec.

        Raises:
            WrongUse: it does not.
        """
        self._domains.check_names(self.frozen.distributions)

    def report(self, value: float, step: int) -> None:
        """Record an intermediate value.

        Raises:
            TrialLeft: the trial cannot or must not go on here.
        """
        self._check_current()
        value, step = _as_float(value), _as_step(step)
        if step in self.frozen.intermediate_values:
            return  # Optuna's rule: the first value of a step counts
        self.frozen.intermediate_values[step] = value
        if not self.has_reported:
            self.check_names()
        self.has_reported = True
        self._deliver(step, value)
        if not self.checkpoints:
            self._leave_if_needed(step, dict)

    def _deliver(self, step: int, value: float) -> None:
        # What the pruner is going to note and to read goes with the value, in one round trip.
        reporter, pruner, trial = (
            self._equipment.reporter,
            self.study.pruner,
            self.frozen,
        )
        if len(self.study.directions) == 1 and reads_others(pruner, self.study, trial):
            for key, noted in noted_rung(pruner, self.study, trial).items():
                reporter.write_system_attribute(key, json.dumps(noted))
            self._has_arrived = reporter.deliver_for_decision(step, value)
        else:
            reporter.post(step, value)  # no other trial's values decide about it
            self._has_arrived = reporter.outage_seconds == 0
        if not reporter.held:
            raise LeaseLost

    def should_prune(self) -> bool:
        """Ask the pruner; while the database is out of reach the trial goes on."""
        if not self._has_arrived or len(self.study.directions) > 1:
            return False
        try:
            return super().should_prune()
        except StorageUnavailable:
            return False

    def checkpoint(self, step: int, capture: Callable[[], Mapping[str, NDArray[Any]]]) -> None:
        """Offer the state after a step, to go on from it elsewhere.

        Args:
            step: the last step in it; its value has been reported.
            capture: copies the state; called only when a checkpoint is due.

        Raises:
            TrialLeft: the trial cannot or must not go on here.
        """
        self._check_current()
        if self._leave_if_needed(step, capture):
            return
        self._equipment.writer.check()
        if step == self._pause_after:
            self._equipment.writer.save(self._trial_id, self._capture(step, capture))
            self._equipment.writer.flush(_FLUSH_SECONDS)
            raise TrialPaused
        if self._equipment.writer.due() and not self._is_last(step):
            self._equipment.writer.save(self._trial_id, self._capture(step, capture))

    def restore(self) -> tuple[int, Arrays] | None:
        """The state to go on from: the last step in it, and its arrays. None: from the start.

        Raises:
            LeaseLost: the trial is no longer this worker's.
        """
        self._check_current()
        equipment = self._equipment
        if self.fresh and not self.values:
            return None
        found = patiently(
            lambda: load_newest(equipment.claims, equipment.store, self._trial_id),
            equipment.patience_seconds,
        )
        kept = self.kept()
        if kept is not None and (found is None or kept.step > found.step):
            found = kept
        step = -1 if found is None else found.step
        held = patiently(
            lambda: equipment.claims.resume(self._trial_id, step), equipment.patience_seconds
        )
        if not held:
            raise LeaseLost
        self._forget_values_after(step)
        if found is None:
            return None
        for each, value in found.facts.get("values", {}).items():
            self._take_over(int(each), value)
        self.seconds_before = float(found.facts.get("seconds", 0.0))
        self.restarts = [*found.facts.get("restarts", []), place(step, found.arrays)]
        _log.info("trial %d goes on after step %d", self.number, step)
        return step, found.arrays

    def _take_over(self, step: int, value: float) -> None:
        """A value that an earlier attempt reported, and the pruner has seen."""
        reported = self.frozen.intermediate_values
        if step not in reported:
            reported[step] = value
            self._equipment.reporter.deliver(step, value)
            if not self._equipment.reporter.held:
                raise LeaseLost

    def kept(self) -> Checkpoint | None:
        """What an earlier worker of this machine kept of this configuration.

        Parameters that the database lacks are taken over. If others were drawn meanwhile, it is
        another configuration, and there is nothing.
        """
        found = self._equipment.unfinished.load(self.first_number)
        if found is None:
            return None
        kept = {name: (value, text) for name, value, text in found.facts.get("drawn", [])}
        if not self.params:
            for name, (value, text) in kept.items():
                self.storage.set_trial_param(self._trial_id, name, value, read_domain(text))
            self.frozen = self.storage.get_trial(self._trial_id)
        if kept.keys() and {name: value for name, (value, _) in kept.items()} != self._drawn():
            _log.warning("trial %d: what is kept here has other parameters", self.number)
            return None
        return found

    def _drawn(self) -> dict[str, float]:
        trial = self.frozen
        return {
            name: internal(domain, trial.params[name])
            for name, domain in trial.distributions.items()
        }

    def offer_model(self, value: float, save: Callable[[Path], None]) -> None:
        """Offer the finished model; it is kept if the trial is among the study's best.

        Args:
            value: the trial's value.
            save: writes the model to a file; called only when it may be kept.
        """
        self._check_current()
        equipment = self._equipment
        # As far as is known: a constraint may be set later, up to the trial's end.
        if not math.isfinite(value) or known_infeasible(self.frozen, equipment.constraints):
            return
        try:
            if not equipment.claims.is_model_wanted(value, equipment.keep_models):
                return
        except StorageUnavailable:
            return  # the trial is worth more than its model
        with own_files("the model"), tempfile.TemporaryDirectory(prefix="orch-") as folder:
            path = Path(folder) / "model.keras"
            save(path)
            self.model = path.read_bytes()

    @property
    def is_feasible(self) -> bool:
        """Whether it violates no constraint, were it to end now."""
        return feasible(self.frozen, self._equipment.constraints) is not False

    def noted(self) -> dict[str, dict[str, Any]]:
        """What the objective has set beside values: its user attributes and constraints."""
        trial = self.frozen
        attributes = trial.user_attrs.items()
        own = {key: value for key, value in attributes if not key.startswith("orch:")}
        return {"attributes": own, "constraints": trial.constraints}

    def note(self, noted: Mapping[str, Mapping[str, Any]]) -> None:
        """Set what an earlier attempt had set."""
        for key, value in noted.get("attributes", {}).items():
            self.set_user_attr(key, value)
        for key, value in noted.get("constraints", {}).items():
            self.set_constraint(key, value)

    def _leave_if_needed(
        self, step: int, capture: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> bool:
        """End the trial here when it must. True: it must, but this was its last step."""
        equipment = self._equipment
        too_long = equipment.reporter.outage_seconds > equipment.patience_seconds
        if not (too_long or equipment.leaving()):
            return False
        if self._is_last(step):
            return True
        state = self._capture(step, capture) if self.checkpoints else None
        if too_long:
            if state is not None:
                self.keep_on_disk(state)
            raise DatabaseLost
        if state is not None:
            equipment.writer.save(self._trial_id, state)
            equipment.writer.flush(_FLUSH_SECONDS)
        raise TrialInterrupted

    def keep_on_disk(self, checkpoint: Checkpoint) -> None:
        """Keep a state on this machine, with the values that the database may lack."""
        values = {str(step): value for step, value in self.values.items()}
        domains = self.frozen.distributions
        drawn = [
            [name, value, distribution_to_json(domains[name])]
            for name, value in self._drawn().items()
        ]
        facts = {**checkpoint.facts, "values": values, "drawn": drawn}
        try:
            path = self._equipment.unfinished.save(
                self.first_number, Checkpoint(checkpoint.step, checkpoint.arrays, facts)
            )
        except OSError as error:  # without the database too, nothing more can be done here
            _log.warning("trial %d cannot be kept on this machine: %s", self.number, error)
            return
        _log.warning("trial %d is kept in %s; a later worker here takes it up", self.number, path)

    def _capture(self, step: int, capture: Callable[[], Mapping[str, NDArray[Any]]]) -> Checkpoint:
        seconds = self.seconds_before + time.monotonic() - self._started
        facts = {"restarts": self.restarts, "seconds": seconds}
        return Checkpoint(step, dict(capture()), facts)

    def _is_last(self, step: int) -> bool:
        return self.steps is not None and step >= self.steps

    def _forget_values_after(self, step: int) -> None:
        values = self.frozen.intermediate_values
        for late in [each for each in values if each > step]:
            del values[late]
        attributes = self.frozen.system_attrs
        for rung in [key for key in attributes if step < 0 and key.startswith(RUNG)]:
            del attributes[rung]

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        # Every suggest_* of Optuna comes through here.
        wanted = self._space.get(name, distribution)
        if wanted is not distribution:
            self._domains.check(name, distribution)
        if not isinstance(wanted, CategoricalDistribution):
            return as_suggested(self._draw(name, wanted), distribution)
        stored = storable(name, wanted, self.study.sampler)
        is_new = name not in self.frozen.distributions
        drawn = self._draw(name, stored)
        place = place_of(stored, drawn)
        # Optuna has stored the first choice that is equal: True for 1.
        if is_new and place != stored.to_internal_repr(drawn):
            self.storage.set_trial_param(self._trial_id, name, place, stored)
        self._chosen[name] = wanted.choices[place]
        return as_suggested(self._chosen[name], distribution)

    def _draw(self, name: str, wanted: BaseDistribution) -> Any:
        """The value of a parameter: enqueued, of an earlier attempt, or the sampler's."""
        drawn = self.frozen.distributions
        if name in self.fixed and name not in drawn:
            check_enqueued(name, self.fixed[name], wanted)

        def suggest() -> Any:
            try:
                return super(WorkerTrial, self).suggest(name, wanted)
            except StorageUnavailable:
                # The value may have been stored although the answer was lost: look before
                # drawing again.
                self._stale = True
                raise

        def suggest_afresh() -> Any:
            if getattr(self, "_stale", False):
                reported = self.values
                self.frozen = self.storage.get_trial(self._trial_id)
                self.frozen.intermediate_values.update(reported)
                self._stale = False
            return suggest()

        return patiently(suggest_afresh, self._equipment.patience_seconds)

    def check_domain(self, name: str, distribution: BaseDistribution) -> None:
        if name not in self._space:
            super().check_domain(name, distribution)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # in Optuna's words
        raise TypeError(
            f"The `value` argument is of type '{type(value)}' but supposed to be a float."
        ) from None


def _as_step(step: Any) -> int:
    try:
        whole = int(step)
    except (TypeError, ValueError):
        raise TypeError(
            f"The `step` argument is of type '{type(step)}' but supposed to be an int."
        ) from None
    if whole < 0:
        raise ValueError(f"`step={whole}` must be non-negative.")
    check_step(whole)
    return whole


def _open_elsewhere(study: str, trial_id: int) -> optuna.Trial:
    """A pickled trial in another process of the objective: what it writes arrives from there."""
    storage = PostgresStorage(Database(os.environ["ORCH_STORAGE"]))
    return optuna.Trial(optuna.Study(study, storage), trial_id)
