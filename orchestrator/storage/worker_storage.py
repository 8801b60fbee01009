"""WorkerStorage: the study as one worker sees it.

A worker reads all trials again and again, and writes one only: its own. Its own trial is written in
memory and goes to an outbox; what others changed comes with the answers to the worker's claims and
reports, so that sampler and pruner find it here without a round trip of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from orchestrator.storage.database import Database, PatientDatabase
from orchestrator.storage.postgres_storage import PostgresStorage, read_changes
from orchestrator.storage.storable import attribute_json, check_name
from orchestrator.storage.trial_cache import Changes, Position, TrialCache

# What came with an answer a moment ago need not be asked for again.
_FRESH_SECONDS = 0.2

_number_document = lru_cache(maxsize=1024)(distribution_to_json)


def _document(distribution: BaseDistribution) -> str:
    # Choices that are equal may be written differently: 1 and True. Numbers may not.
    if isinstance(distribution, CategoricalDistribution):
        return distribution_to_json(distribution)
    return _number_document(distribution)


class Outbox(Protocol):
    """Takes what is written to a worker's own trial; attributes are JSON."""

    def write_param(self, name: str, value: float, distribution: str) -> None: ...

    def write_user_attribute(self, key: str, value: str) -> None: ...

    def write_system_attribute(self, key: str, value: str) -> None: ...


class WorkerStorage(PostgresStorage):
    """Optuna's storage for one worker's study.

    The training thread alone reads and writes here; the reporter's thread calls ``take`` and reads
    ``position``. What both touch is in the trial cache, which has a lock. ``_own`` is set between
    two trials, when the reporter has nothing to send; ``_synced`` is one reference, and an old one
    costs one more question; ``_is_patient`` is the training thread's alone.

    Args:
        database: where the study is.
        study_id: the study.
        patience_seconds: how long a read waits for a database that is away; 0: not at all.
    """

    def __init__(self, database: Database, study_id: int, patience_seconds: float = 0.0) -> None:
        super().__init__(database)
        self._study_id = study_id
        self._patient = PatientDatabase(database, patience_seconds)
        self._is_patient = True
        self._outbox: Outbox | None = None
        self._cache = TrialCache()
        self._synced = float("-inf")
        self._own: FrozenTrial | None = None
        self._own_domains: dict[str, BaseDistribution] = {}
        self._held_params: dict[str, tuple[float, str]] | None = None
        study = self._study(study_id)
        self._name, self._directions = study.study_name, study.directions

    @property
    def position(self) -> Position:
        """From where changes are to be asked for."""
        return self._cache.position

    @property
    def age_seconds(self) -> float:
        """How long ago this worker was last told what others did."""
        return time.monotonic() - self._synced

    def take(self, changes: Changes) -> None:
        """Take in what came with the answer to a claim or a report."""
        self._cache.take(changes, None if self._own is None else self._own._trial_id)
        self._synced = time.monotonic()

    def sync(self) -> None:
        """Ask for what has changed.

        Raises:
            KeyError: there is no such study any more.
            StorageError: the database is out of reach.
        """
        database = self._patient if self._is_patient else self._database
        self.take(read_changes(database, self._study_id, self._cache.position))

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Inside, no read waits for a database that is away."""
        self._is_patient = False
        try:
            yield
        finally:
            self._is_patient = True

    @contextmanager
    def holding_params(self) -> Iterator[dict[str, tuple[float, str]]]:
        """Inside, parameters of the worker's own trial are collected, and not sent.

        Where drawing fails they are sent, so that the failed trial shows what it has drawn.
        """
        held = self._held_params = {}
        try:
            yield held
        except BaseException:
            self.send_params(held)
            raise
        finally:
            self._held_params = None

    def send_params(self, params: Mapping[str, tuple[float, str]]) -> None:
        """Send parameters that were collected."""
        assert self._outbox is not None
        for name, (value, document) in params.items():
            self._outbox.write_param(name, value, document)

    def all_trials(self) -> list[FrozenTrial]:
        """All trials of the study, as far as is known here."""
        return self._cache.trials()

    def start_trial(self, trial_id: int, outbox: Outbox) -> FrozenTrial:
        """From now on this is the worker's own trial.

        Args:
            trial_id: a trial that the worker has claimed.
            outbox: takes what is written to it.

        Raises:
            KeyError: it is not known here.
        """
        self._own, self._outbox = self._cache.trial(trial_id), outbox
        return self._own

    def finish_trial(self) -> None:
        """The worker has no trial, and what is known of the last one is old."""
        self._own, self._synced = None, float("-inf")
        self._outbox = None

    def changed_since(self, seen: tuple[int, int]) -> tuple[list[FrozenTrial], tuple[int, int]]:
        """See :meth:`TrialCache.changed_since`; as far as is known here."""
        return self._cache.changed_since(seen)

    def trial_cache(self, study_id: int) -> TrialCache:
        if study_id != self._study_id:
            return super().trial_cache(study_id)
        if self.age_seconds > _FRESH_SECONDS:
            self.sync()
        return self._cache

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if self._own is not None and trial_id == self._own._trial_id:
            return self._own
        return super().get_trial(trial_id)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        own, outbox = self._own, self._outbox
        if own is None or outbox is None or trial_id != own._trial_id:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
            return
        check_name(param_name)
        known = self._own_domains.setdefault(param_name, distribution)
        check_distribution_compatibility(known, distribution)
        own.distributions[param_name] = distribution
        own.params[param_name] = distribution.to_external_repr(param_value_internal)
        document = _document(distribution)
        if self._held_params is not None:
            self._held_params[param_name] = (param_value_internal, document)
        else:
            outbox.write_param(param_name, param_value_internal, document)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        own, outbox = self._own, self._outbox
        if own is None or outbox is None or trial_id != own._trial_id:
            super().set_trial_user_attr(trial_id, key, value)
            return
        text = attribute_json(key, value)
        own.user_attrs[key] = value
        outbox.write_user_attribute(key, text)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        own, outbox = self._own, self._outbox
        if own is None or outbox is None or trial_id != own._trial_id:
            super().set_trial_system_attr(trial_id, key, value)
            return
        text = attribute_json(key, value)
        own.system_attrs[key] = value
        outbox.write_system_attribute(key, text)

    # What Optuna asks of its study for every trial.

    def get_study_id_from_name(self, study_name: str) -> int:
        own = study_name == self._name
        return self._study_id if own else super().get_study_id_from_name(study_name)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        own = study_id == self._study_id
        return self._directions if own else super().get_study_directions(study_id)
