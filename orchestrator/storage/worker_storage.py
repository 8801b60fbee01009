"""WorkerStorage: the study as one worker sees it.

A worker reads all trials again and again, and writes one only: its own. Its own trial is written in
memory and goes to an outbox; what others changed comes with the answers to the worker's claims and
reports, so that sampler and pruner find it here without a round trip of their own.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.storage.database import Database
from orchestrator.storage.patient import PatientDatabase
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.storable import attribute_json, check_name, to_json
from orchestrator.storage.trial_cache import Changes, TrialCache

# What came with an answer a moment ago need not be asked for again.
_FRESH_SECONDS = 0.2


# What JSON gives back as it was.
_PLAIN = (str, int, float, bool, type(None))

_number_document = lru_cache(maxsize=1024)(distribution_to_json)


def _document(distribution: BaseDistribution) -> str:
    # Choices that are equal may be written differently: 1 and True. Numbers may not.
    if isinstance(distribution, CategoricalDistribution):
        return distribution_to_json(distribution)
    return _number_document(distribution)


@dataclass(frozen=True)
class End:
    """How a trial ended: its state, its values, and what its worker noted with the end."""

    state: str
    values: Sequence[float] | None
    attributes: Mapping[str, Any]


def _ended(own: FrozenTrial, end: End) -> FrozenTrial:
    """The trial as the server has it now; what was given out of it stays as it was."""
    trial = copy.copy(own)
    trial.state = TrialState[end.state]
    trial.values = list(end.values) if end.values else None
    trial.user_attrs = _as_read({**own.user_attrs, **end.attributes})
    trial.system_attrs = _as_read(own.system_attrs)
    return trial


def _as_read(attributes: dict[str, Any]) -> dict[str, Any]:
    """A copy, as others read it: a tuple is a list then."""
    if all(type(value) in _PLAIN for value in attributes.values()):
        return dict(attributes)
    read: dict[str, Any] = json.loads(to_json(attributes))
    return read


class Outbox(Protocol):
    """Takes what is written to a worker's own trial; attributes are JSON."""

    def write_param(self, name: str, value: float, distribution: str) -> None: ...

    def write_user_attribute(self, key: str, value: str) -> None: ...

    def write_system_attribute(self, key: str, value: str) -> None: ...


class WorkerStorage(PostgresStorage):
    """Optuna's storage for one worker's study.

    The training thread alone reads and writes here; the reporter's thread calls ``take`` and reads
    ``cursor``. What both touch is in the trial cache, which has a lock. ``_own`` and ``_last`` are
    set between two trials, when the reporter has nothing to send; ``_synced`` and ``_is_read`` are
    one reference each, and an old one costs one more question.

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
        self._is_read = False  # whether anybody has asked for all of the trials
        self._own: FrozenTrial | None = None
        self._last: FrozenTrial | None = None
        self._own_domains: dict[str, BaseDistribution] = {}
        study = self._study(study_id)
        self._name, self._directions = study.study_name, study.directions

    @property
    def cursor(self) -> str:
        """From where changes are to be asked for, and which."""
        return self._cache.cursor if self._is_read else f"{self._cache.cursor} rungs"

    @property
    def age_seconds(self) -> float:
        """How long ago this worker was last told what others did."""
        return time.monotonic() - self._synced

    def take(self, changes: Changes, end: End | None = None) -> None:
        """Take in what came with the answer to a claim or a report.

        Args:
            changes: what came.
            end: how the last trial that was written here has ended, if it ended with this answer.
        """
        ended = None if end is None or self._last is None else _ended(self._last, end)
        self._cache.take(changes, None if self._own is None else self._own._trial_id, ended)
        self._synced = time.monotonic()

    def sync(self) -> None:
        """Ask for what has changed.

        Raises:
            StorageError: the database is out of reach.
        """
        row = (self._patient if self._is_patient else self._database).row(
            "changed_trials",
            study_id=self._study_id,
            since=self._cache.cursor,
            also=self._cache.partly_known(),
        )
        if row is None:
            raise KeyError(f"no study with id {self._study_id}")
        self.take(row["changes"])

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Inside, no read waits for a database that is away."""
        self._is_patient = False
        try:
            yield
        finally:
            self._is_patient = True

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
        self._own, self._last, self._synced = None, self._own, float("-inf")
        self._outbox = None

    def changed_since(self, position: int) -> tuple[list[FrozenTrial], int]:
        """The trials that changed since an earlier answer, as far as is known here."""
        return self._cache.changed_since(position)

    def trial_cache(self, study_id: int) -> TrialCache:
        if study_id != self._study_id:
            return super().trial_cache(study_id)
        # Many a sampler never looks at other trials; one that has will do so again.
        self._is_read = True
        if self.age_seconds > _FRESH_SECONDS or self._cache.partly_known():
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
        outbox.write_param(param_name, param_value_internal, _document(distribution))

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
