"""PostgresStorage: Optuna's storage interface in plain SQL, on Optuna's own tables.

One statement for each call, whatever it writes; reading all trials asks for what has changed since
they were last read. No session state: each call is a transaction of its own, so a pooler in
transaction mode may stand between.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from psycopg2.extras import Json

from orchestrator.base.optuna_internals import DEFAULT_STUDY_NAME_PREFIX, FrozenStudy
from orchestrator.spec.choices import internal, read_domain
from orchestrator.storage.database import Database, PatientDatabase, Row
from orchestrator.storage.storable import (
    Logs,
    attribute_json,
    check_name,
    check_step,
    logs_document,
)
from orchestrator.storage.trial_cache import (
    Changes,
    Position,
    TrialCache,
    frozen_trial,
    stored_number,
)


class PostgresStorage(BaseStorage):
    """Optuna's storage. Safe to share between threads.

    Args:
        database: with Optuna's tables and ours in place.

    Raises:
        StorageError: from every method, when the database is out of reach.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._caches: dict[int, TrialCache] = {}
        # The distribution of a parameter that a study's trials have; it may not change its kind.
        self._domains: dict[tuple[int, str], BaseDistribution] = {}
        self._study_of_trial: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._database.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(Database(state["url"]))  # type: ignore[misc]

    # Studies

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        name = f"{DEFAULT_STUDY_NAME_PREFIX}{uuid.uuid4()}" if study_name is None else study_name
        row = self._database.call(
            "add_study", name=name, directions=[each.name for each in directions]
        )
        if row["study_id"] is None:
            raise DuplicatedStudyError(f"a study '{name}' exists already")
        return int(row["study_id"])

    def delete_study(self, study_id: int) -> None:
        self._study(study_id)
        self._database.call("delete_study", study=study_id)
        self._caches.pop(study_id, None)

    def get_study_id_from_name(self, study_name: str) -> int:
        row = self._database.row("study_by_name", name=study_name)
        if row is None:
            raise KeyError(f"no study '{study_name}'")
        return int(row["study_id"])

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._study(study_id).study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._study(study_id).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._study(study_id).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._study(study_id).system_attrs

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._set_study_attribute("set_study_user_attribute", study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._set_study_attribute("set_study_system_attribute", study_id, key, value)

    def _set_study_attribute(self, function: str, study_id: int, key: str, value: Any) -> None:
        text = attribute_json(key, value)
        if not self._database.call(function, study=study_id, key=key, value=text)["known"]:
            raise _no_study(study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        return [_frozen_study(row) for row in self._database.rows("plain_studies", study_id=None)]

    def _study(self, study_id: int) -> FrozenStudy:
        row = self._database.row("plain_studies", study_id=study_id)
        if row is None:
            raise _no_study(study_id)
        return _frozen_study(row)

    # Writing trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial = template_trial or _running_trial()
        stored = [stored_number(value) for value in trial.values or ()]
        row = self._database.call(
            "add_trial",
            study=study_id,
            state=trial.state.name,
            start=_utc(trial.datetime_start),
            complete=_utc(trial.datetime_complete),
            values=[value for value, _ in stored],
            types=[kind for _, kind in stored],
            writes=Json(_parts(trial)),
        )
        if row["add_trial"] is None:
            raise _no_study(study_id)
        self._study_of_trial[row["add_trial"]] = study_id
        return int(row["add_trial"])

    def add_trials(
        self, study_id: int, first: int, trials: Sequence[FrozenTrial]
    ) -> dict[int, int]:
        """Write whole trials in one statement, for a study that nobody else can see yet.

        Args:
            study_id: of the study.
            first: the number of the first; the others follow without a gap.
            trials: what to write; their own numbers do not count.

        Returns:
            The id of each number.
        """
        rows = self._database.rows(
            "add_trials",
            study_id=study_id,
            trials=Json([_rows(number, trial) for number, trial in enumerate(trials, first)]),
        )
        return {row["number"]: row["trial_id"] for row in rows}

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        check_name(param_name)
        known = self._domain(trial_id, param_name)
        if known is not None:
            try:
                check_distribution_compatibility(known, distribution)
            except ValueError:
                # Of the two faults, Optuna names the end of the trial first.
                self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
                raise
        stored = [param_name, param_value_internal, distribution_to_json(distribution)]
        self._store(trial_id, {"params": [stored]})
        self._domains[self._study_of_trial[trial_id], param_name] = distribution

    def _domain(self, trial_id: int, name: str) -> BaseDistribution | None:
        """The distribution that this parameter has in the trial's study; None: it is new."""
        study_id = self._study_of_trial.get(trial_id)
        if study_id is not None and (study_id, name) in self._domains:
            return self._domains[study_id, name]
        row = self._database.row("domain_of_param", trial_id=trial_id, name=name)
        if row is None:
            raise _no_trial(trial_id)
        self._study_of_trial[trial_id] = row["study_id"]
        text = row["distribution_json"]
        return None if text is None else read_domain(text)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        stored = [stored_number(value) for value in values or ()]
        row = self._database.call(
            "set_state",
            trial=trial_id,
            state=state.name,
            values=[value for value, _ in stored],
            types=[kind for _, kind in stored],
        )
        before = _open_state(trial_id, row["set_state"])
        return state != TrialState.RUNNING or before == TrialState.WAITING

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        check_step(step)
        self._store(trial_id, {"values": [[step, *stored_number(intermediate_value)]]})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._store(trial_id, {"user": {key: attribute_json(key, value)}})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._store(trial_id, {"system": {key: attribute_json(key, value)}})

    def set_trial_logs(self, trial_id: int, logs: Logs) -> None:
        """Store what a trial that has not ended logs, beside what Optuna knows.

        Args:
            trial_id: the trial.
            logs: values by step and name.
        """
        self._store(trial_id, {"logs": logs_document(logs)})

    def _store(self, trial_id: int, writes: Mapping[str, Any]) -> None:
        row = self._database.call("store_open", trial=trial_id, writes=Json(writes))
        _open_state(trial_id, row["store_open"])

    # Reading trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        row = self._database.row("trial_by_id", trial_id=trial_id)
        if row is None:
            raise _no_trial(trial_id)
        return frozen_trial(row["trials"][0])

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = self.trial_cache(study_id).trials()
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def trial_cache(self, study_id: int) -> TrialCache:
        """The study's trials as they are now.

        Raises:
            KeyError: there is no such study.
        """
        cache = self._caches.setdefault(study_id, TrialCache())
        try:
            # What a running trial reports is noted nowhere.
            cache.take(read_changes(self._database, study_id, cache.position, cache.unfinished()))
        except KeyError:
            self._caches.pop(study_id, None)
            raise
        return cache

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        row = self._database.row("trial_by_number", study_id=study_id, number=trial_number)
        if row is None:
            raise KeyError(f"no trial {trial_number} in the study with id {study_id}")
        return int(row["trial_id"])


def read_changes(
    database: Database | PatientDatabase, study_id: int, since: Position, also: Sequence[int] = ()
) -> Changes:
    """What has changed in a study since a position, and some trials in any case.

    Raises:
        KeyError: there is no such study.
        StorageError: the database is out of reach.
    """
    row = database.row("changed_trials", study_id=study_id, also=list(also), **asdict(since))
    changes = None if row is None else Changes.take_from(row, since)
    if changes is None:
        raise _no_study(study_id)
    return changes


def _running_trial() -> FrozenTrial:
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _parts(trial: FrozenTrial) -> dict[str, Any]:
    """The trial's rows in the form of ``orch.store``."""
    return {
        "params": [
            [name, internal(domain, trial.params[name]), distribution_to_json(domain)]
            for name, domain in trial.distributions.items()
        ],
        "values": [
            [step, *stored_number(value)] for step, value in trial.intermediate_values.items()
        ],
        "user": {key: attribute_json(key, value) for key, value in trial.user_attrs.items()},
        "system": {key: attribute_json(key, value) for key, value in trial.system_attrs.items()},
    }


def _rows(number: int, trial: FrozenTrial) -> dict[str, Any]:
    """The trial's rows in the form of the query ``add_trials``; lists, which keep their order."""
    times = (_utc(trial.datetime_start), _utc(trial.datetime_complete))
    written = [None if time is None else time.isoformat() for time in times]
    return {
        "trial": [number, trial.state.name, *written],
        "values": [stored_number(value) for value in trial.values or ()],
        "reported": [
            [step, *stored_number(value)] for step, value in trial.intermediate_values.items()
        ],
        "params": [
            [name, internal(domain, trial.params[name]), distribution_to_json(domain)]
            for name, domain in trial.distributions.items()
        ],
        "user": [[key, json.dumps(value)] for key, value in trial.user_attrs.items()],
        "system": [[key, json.dumps(value)] for key, value in trial.system_attrs.items()],
    }


def _open_state(trial_id: int, name: str | None) -> TrialState:
    """The state before a write, by its name; it must have been one that takes writes."""
    if name is None:
        raise _no_trial(trial_id)
    state = TrialState[name]
    if state.is_finished():
        raise UpdateFinishedTrialError(f"trial {trial_id} has ended; it cannot be changed")
    return state


def _frozen_study(row: Row) -> FrozenStudy:
    return FrozenStudy(
        study_name=row["name"],
        direction=None,
        directions=[StudyDirection[each] for each in row["directions"]],
        user_attrs={key: json.loads(text) for key, text in row["user_attributes"]},
        system_attrs={key: json.loads(text) for key, text in row["system_attributes"]},
        study_id=row["study_id"],
    )


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)


def _no_study(study_id: int) -> KeyError:
    return KeyError(f"no study with id {study_id}")


def _no_trial(trial_id: int) -> KeyError:
    return KeyError(f"no trial with id {trial_id}")
