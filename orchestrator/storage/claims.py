"""The calls of a worker that claims trials and holds their leases, and what it sends with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from uuid import UUID

from psycopg2 import Binary
from psycopg2.extras import Json

from orchestrator.base.backoff import Stop
from orchestrator.storage.database import Database, PatientDatabase, Row
from orchestrator.storage.schema import ORCH_VERSION
from orchestrator.storage.storable import Logs, clean, logs_document, to_json
from orchestrator.storage.studies import compressed
from orchestrator.storage.trial_cache import NOWHERE, Changes, Position, stored_number


@dataclass
class Writes:
    """What is to be written of a trial.

    Attributes:
        values: intermediate values by step.
        params: by name, Optuna's internal value and the distribution as JSON.
        user_attributes: JSON by key.
        system_attributes: JSON by key.
        logs: further values by step and name.
    """

    values: dict[int, float] = field(default_factory=dict)
    params: dict[str, tuple[float, str]] = field(default_factory=dict)
    user_attributes: dict[str, str] = field(default_factory=dict)
    system_attributes: dict[str, str] = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self._parts())

    def copy(self) -> Writes:
        return Writes(*(dict(part) for part in self._parts()))

    def add(self, other: Writes) -> None:
        """Take over what was written later."""
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            mine.update(theirs)

    def remove(self, sent: Writes) -> None:
        """Forget what was sent, unless it has been written anew since."""
        for mine, theirs in zip(self._parts(), sent._parts(), strict=True):
            _remove_same(mine, theirs)

    def _parts(self) -> tuple[dict[Any, Any], ...]:
        return (
            self.values, self.params, self.user_attributes, self.system_attributes, self.logs,
        )  # fmt: skip

    def without_attributes(self) -> Writes:
        """What is of a bounded size, so that it can be stored in any case."""
        return Writes(dict(self.values), dict(self.params), logs=dict(self.logs))

    def document(self) -> Json:
        """As ``orch.store`` takes it."""
        parts = {
            "values": [[step, *stored_number(value)] for step, value in self.values.items()],
            "params": [[name, *param] for name, param in self.params.items()],
            "user": self.user_attributes,
            "system": self.system_attributes,
            "logs": logs_document(self.logs),
        }
        return Json({name: part for name, part in parts.items() if part})


@dataclass
class Account:
    """All that a trial wrote, for its end.

    Attributes:
        everything: all of it.
        late: what is not known to have arrived.
        serial: the number of the newest write that has arrived; 0: everything is late.
    """

    everything: Writes = field(default_factory=Writes)
    late: Writes = field(default_factory=Writes)
    serial: int = 0


def _remove_same(mine: dict[Any, Any], sent: dict[Any, Any]) -> None:
    for key, value in sent.items():
        # The very object: a NaN is not equal to itself.
        if key in mine and mine[key] is value:
            del mine[key]


Outcome = Literal[
    "trial", "plan", "wait", "done", "timeout", "drained", "failed", "misused", "gone", "schema"
]


@dataclass(frozen=True)
class Claim:
    """The answer to a worker that asks for work; ``claims.sql`` lists the outcomes.

    Attributes:
        outcome: what the worker is to do.
        trial_id: of a trial that is leased to it.
        is_fresh: whether nobody has run that trial before.
        stage: of a planned study whose queue is empty.
        budget: of such a study, how many trials it ends with.
        reason: why the study failed, or its search has ended.
        changes: what others have changed; None: not asked for, or there is no work.
    """

    outcome: Outcome
    trial_id: int | None = None
    is_fresh: bool | None = None
    stage: int | None = None
    budget: int | None = None
    reason: str | None = None
    changes: Changes | None = None


@dataclass(frozen=True)
class Failure:
    """What the server is told of a failed attempt.

    Attributes:
        ending: a row of the table in ``attempts.sql``.
        signature: equal for failures of the same cause; None: it is not to be compared.
    """

    ending: Literal["failed", "certain"] = "failed"
    signature: str | None = None


def worker_id(token: UUID) -> UUID:
    """The id of the worker that has this token, as ``orch.worker_of`` makes it."""
    text = hashlib.sha256(token.bytes).hexdigest()
    return UUID(f"{text[:12]}8{text[13:16]}8{text[17:32]}")


class Claims:
    """The trials of one study, as one worker takes and ends them.

    What the training thread cannot go on without is asked again until the database answers. What
    another thread sends (``write``, ``renew``, ``save_checkpoint``), or what a trial is worth more
    than (its model), fails at once.

    Args:
        database: where the study is.
        study_id: the study.
        token: proves who the worker is; see ``workers.sql``.
        patience_seconds: how long a call is repeated while the database is away; 0: it is not.
        stop: once it is asked, no claim waits for the database.

    Attributes:
        token: that one.
        worker_id: what everybody may know the worker by.
    """

    def __init__(
        self,
        database: Database,
        study_id: int,
        token: UUID,
        patience_seconds: float = 0.0,
        stop: Stop | None = None,
    ) -> None:
        self._database = database
        self._patient = PatientDatabase(database, patience_seconds)
        self._until_stop = PatientDatabase(database, patience_seconds, stop)
        self._study_id = study_id
        self.token = token
        self.worker_id = worker_id(token)
        # As text: psycopg2 takes a UUID only after a change to the whole process.
        self._token = str(token)

    def join(self, name: str) -> None:
        """Register the worker under a name for people, and sweep what dead workers left behind."""
        self._until_stop.call("join_study", study=self._study_id, token=self._token, name=name)
        self._until_stop.call("remove_orphans")

    def leave(self, claim: Claim | None = None) -> None:
        """Sign off: the worker no longer counts as alive.

        Args:
            claim: the newest; a trial of it that has not begun is released.
        """
        if claim is not None and claim.trial_id is not None:
            self._database.call("release", token=self._token, trial=claim.trial_id)
        self._database.call("leave_study", token=self._token)

    def claim(self, since: Position | None = None) -> Claim:
        """Take a trial: the budget is checked and the trial leased in the same transaction.

        Args:
            since: the trial cache's position; changes come with the answer. None: not wanted.
        """
        asked = since or NOWHERE
        row = self._until_stop.call(
            "claim",
            study=self._study_id,
            token=self._token,
            version=ORCH_VERSION,
            **asdict(asked),
        )
        return Claim(changes=Changes.take_from(row, asked), **row)

    def exhaust(self, reason: str, stage: int | None) -> None:
        """The search has ended by itself: no further trial starts.

        Args:
            reason: why, for people.
            stage: the stage at which a plan had nothing left; trials that were queued since then
                keep the study open. None: whatever the stage.
        """
        self._patient.call("exhaust_study", study=self._study_id, reason=reason, stage=stage)

    def advance(
        self,
        stage: int,
        queue: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = (),
        promote: Sequence[int] = (),
        prune: Sequence[int] = (),
    ) -> bool:
        """Do what a plan wants.

        Args:
            stage: the one that the plan has looked at.
            queue: new trials, each with its parameters and its system attributes.
            promote: ids of paused trials that go on.
            prune: ids of paused trials that end.

        Returns:
            False: another worker has done what the plan wanted at this stage.
        """
        row = self._patient.call(
            "advance_plan",
            study=self._study_id,
            stage=stage,
            configurations=Json([to_json(configuration) for configuration, _ in queue]),
            attributes=Json([attributes for _, attributes in queue]),
            promote=list(promote),
            prune=list(prune),
        )
        return bool(row["advance_plan"])

    def pause(self, trial_id: int) -> bool:
        """The trial has ended its round; it waits, with its checkpoint, for a promotion.

        Returns:
            False: the lease is gone; nothing was written.
        """
        return self._held("pause", trial=trial_id)

    def renew(self) -> set[int]:
        """A sign of life. Returns the trials that the worker still holds."""
        return set(self._database.call("renew", token=self._token)["held"])

    def write(
        self,
        trial_id: int,
        writes: Writes,
        durable: bool = True,
        since: Position | None = None,
        serial: int = 0,
        after: int = 0,
    ) -> tuple[bool, Changes | None]:
        """Record what a trial has drawn, noted and reported; repeating it changes nothing.

        Args:
            trial_id: Optuna's id of the trial.
            writes: what is recorded.
            durable: wait for the server, and for its disk. Otherwise it fails at once while the
                database is away, and a crash of the server may lose it.
            since: the trial cache's position; changes are the answer. None: not wanted.
            serial: the number of this write, by which the trial's end knows that it has arrived.
            after: the number of the newest one before it that has arrived.

        Returns:
            Whether the lease is held (otherwise nothing was written), and the changes.
        """
        asked = since or NOWHERE
        row = (self._patient if durable else self._database).call(
            "write",
            trial=trial_id,
            token=self._token,
            serial=serial,
            after=after,
            writes=writes.document(),
            durable=durable,
            **asdict(asked),
        )
        return bool(row["held"]), Changes.take_from(row, asked)

    def save_checkpoint(
        self, trial_id: int, step: int, artifact_id: str, sha256: str, writes: Writes
    ) -> tuple[bool, list[str]]:
        """Record a checkpoint that is whole in its store, and what the trial wrote up to it.

        Returns:
            Whether the lease is held, and the artifacts that are no longer needed.
        """
        row = self._database.call(
            "save",
            trial=trial_id,
            token=self._token,
            step=step,
            artifact=artifact_id,
            sha256=sha256,
            writes=writes.document(),
        )
        return bool(row["held"]), list(row["needless"])

    def checkpoints(self, trial_id: int) -> list[tuple[str, int, str]]:
        """The trial's checkpoints, newest first: artifact, step, SHA-256."""
        rows = self._patient.rows("checkpoints_of_trial", trial_id=trial_id)
        return [(row["artifact_id"], row["step"], row["sha256"]) for row in rows]

    def resume(self, trial_id: int, step: int) -> bool:
        """Training goes on after ``step`` (-1: from the start); later values are dropped.

        Returns:
            False: the lease is gone.
        """
        return self._held("resume", trial=trial_id, step=step)

    def list_configurations(self, count: int | None, keys: Mapping[int, str]) -> None:
        """Tell the server of a finite space.

        Args:
            count: of its configurations; None: it does not end the study.
            keys: those of the trials so far, by the trial's id.
        """
        self._patient.call(
            "list_configurations",
            study=self._study_id,
            count=count,
            keys=list(keys.values()),
            trials=list(keys),
        )

    def keep_configuration(
        self, trial_id: int, key: str, writes: Writes, anyway: bool = False
    ) -> tuple[bool, bool]:
        """Keep a configuration for a trial, and store its parameters, unless another trial has it.

        Args:
            trial_id: Optuna's id of the trial.
            key: the configuration's.
            writes: its parameters.
            anyway: store them although another trial has the same.

        Returns:
            Whether the lease is held (otherwise nothing was written), and whether no other trial
            has the configuration.
        """
        row = self._patient.call(
            "keep_configuration",
            trial=trial_id,
            token=self._token,
            key=key,
            writes=writes.document(),
            anyway=anyway,
        )
        return bool(row["held"]), bool(row["is_new"])

    def is_model_wanted(self, value: float, keep: int) -> bool:
        """Whether a trial of this value would be among the best ``keep`` that may win so far."""
        row = self._database.call("is_model_wanted", study=self._study_id, value=value, keep=keep)
        return bool(row["is_model_wanted"])

    def keep_model(self, trial_id: int, artifact_id: str, sha256: str, keep: int) -> list[str]:
        """Keep the models of the best ``keep`` trials that may win.

        Returns:
            The artifacts that fall out; this one where its trial is not among them.
        """
        row = self._database.call(
            "keep_best_model",
            trial=trial_id,
            token=self._token,
            artifact=artifact_id,
            sha256=sha256,
            keep=keep,
        )
        return list(row["needless"])

    def finish(
        self,
        trial_id: int,
        state: Literal["COMPLETE", "PRUNED"],
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        account: Account | None = None,
    ) -> bool:
        """End the trial.

        Args:
            trial_id: Optuna's id of the trial.
            state: how it ended.
            values: one for each metric; None for a pruned trial that reported nothing.
            attributes: user attributes to record with it.
            account: what the trial wrote. What a server lost of it in a crash is written again.

        Returns:
            False: the lease is gone; nothing was written.
        """
        end = self._end(trial_id, state, values, attributes)
        return self._finish(end, account, NOWHERE) is not None

    def finish_and_claim(
        self,
        trial_id: int,
        state: Literal["COMPLETE", "PRUNED"],
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        account: Account | None,
        since: Position | None,
    ) -> Claim | None:
        """End the trial and claim the next one, in one transaction.

        Returns:
            The next claim. None: the lease is gone; nothing was written.
        """
        asked = since or NOWHERE
        end = self._end(trial_id, state, values, attributes)
        row = self._finish(end | {"claims": True}, account, asked)
        return None if row is None else Claim(changes=Changes.take_from(row, asked), **row)

    def _finish(self, end: Row, account: Account | None, since: Position) -> Row | None:
        """The answer to an end; None: the lease is gone."""
        account = account or Account()
        late, serial = account.late, account.serial
        while True:
            row = self._patient.call(
                "finish", serial=serial, writes=late.document(), **end, **asdict(since)
            )
            ended = row.pop("ended")
            if ended != "lacking":
                return row if ended == "ended" else None
            late, serial = account.everything, 0

    def _end(
        self,
        trial_id: int,
        state: str,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
    ) -> Row:
        stored = [stored_number(value) for value in values or ()]
        return {
            "study": self._study_id,
            "trial": trial_id,
            "token": self._token,
            "state": state,
            "values": [value for value, _ in stored],
            "types": [kind for _, kind in stored],
            "attributes": Json(clean(dict(attributes))),
            "claims": False,
            "version": ORCH_VERSION,
        }

    def fail(
        self,
        trial_id: int,
        reason: str,
        attributes: Mapping[str, Any],
        failure: Failure = Failure(),
    ) -> bool:
        """End the attempt as failed; what follows of it happens in the same transaction.

        Args:
            trial_id: Optuna's id of the trial.
            reason: why, for people.
            attributes: user attributes to record with it.
            failure: what it costs; one attempt unless told otherwise.

        Returns:
            False: the lease is gone; nothing was written.
        """
        return self._held(
            "fail",
            trial=trial_id,
            reason=clean(reason),
            attributes=Json(clean(dict(attributes))),
            ending=failure.ending,
            signature=clean(failure.signature),
        )

    def stop_for_wrong_use(self, trial_id: int, reason: str) -> bool:
        """Stop the study; the trial waits until the mistake is corrected.

        Returns:
            False: the lease is gone; nothing was written.
        """
        return self._held("stop_misused", trial=trial_id, reason=clean(reason))

    def release(self, trial_id: int) -> bool:
        """Return the trial to the queue: an orderly leave is no failed attempt.

        Returns:
            False: the lease is gone; nothing was written.
        """
        return self._held("release", trial=trial_id)

    def store_output(self, trial_id: int, lease: int, text: str, lines: int, ended: bool) -> None:
        """Store what a trial has printed during a lease, in place of what was stored of it before.

        Args:
            trial_id: Optuna's id of the trial.
            lease: counts those that the worker has had; this one may have ended.
            text: the newest part.
            lines: how many it has printed, including those dropped from the text.
            ended: nothing more comes.
        """
        self._database.call(
            "store_output",
            trial=trial_id,
            token=self._token,
            lease=lease,
            lines=lines,
            ended=ended,
            body=Binary(compressed(text)),
        )

    def leased(self) -> list[int]:
        """The trials leased to this worker."""
        rows = self._database.rows("leases_of_worker", worker_id=str(self.worker_id))
        return [row["trial_id"] for row in rows]

    @property
    def url(self) -> str:
        """The database."""
        return self._database.url

    def disconnect(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._database.close()

    @property
    def connections(self) -> int:
        """How many connections have been opened: a new one may be to a server that has crashed."""
        return self._database.connections

    def _held(self, function: str, **arguments: Any) -> bool:
        return bool(self._patient.call(function, token=self._token, **arguments)["held"])
