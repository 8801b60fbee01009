"""One attempt at a trial: run the objective and record how it ended."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from optuna.exceptions import TrialPruned
from optuna.trial import TrialState

from orchestrator.base.backoff import patiently
from orchestrator.base.numbers import rounded
from orchestrator.errors import PatienceExceeded, StorageUnavailable, StudyFailed, Unstorable
from orchestrator.storage.artifacts import remove_artifacts, write_artifact
from orchestrator.storage.claims import Failure
from orchestrator.storage.storable import clean
from orchestrator.storage.url import hide
from orchestrator.training.base import Objective
from orchestrator.worker.checkpoints import Checkpoint
from orchestrator.worker.endings import (
    LONGEST_LOG,
    Ending,
    ending_of,
    signature_of,
    users_line,
    words_of,
)
from orchestrator.worker.equipment import Equipment
from orchestrator.worker.leaving import (
    DatabaseLost,
    LeaseLost,
    MachineFault,
    TrialInterrupted,
    TrialPaused,
)
from orchestrator.worker.returned import as_values
from orchestrator.worker.trial import WorkerTrial

_log = logging.getLogger("orch")

_LOG_LINES = 20
Result = TypeVar("Result")
State = Literal["COMPLETE", "PRUNED"]


class Attempt:
    """Runs one claimed trial to its end.

    Args:
        equipment: the worker's.
        objective: what to run.
        worker: facts about the worker, recorded as user attributes.
        trial_id: Optuna's id of the trial.
        number: its number.
        takes_next: tells whether the worker wants another trial after this one.
    """

    def __init__(
        self,
        equipment: Equipment,
        objective: Objective,
        worker: Mapping[str, Any],
        trial_id: int,
        number: int,
        takes_next: Callable[[], bool],
    ) -> None:
        self._equipment = equipment
        self._objective = objective
        self._worker = worker
        self._trial_id = trial_id
        self._number = number
        self._takes_next = takes_next
        self._process = os.getpid()
        self._started = time.monotonic()
        self._trial: WorkerTrial | None = None

    def run(self, make_trial: Callable[[], WorkerTrial]) -> None:
        """Run the objective; whatever it does, the trial ends, is given back, or is kept.

        Raises:
            PatienceExceeded: the database stayed away too long.
            WrongUse: no trial of the study can succeed; it is stopped.
            StudyFailed: this machine cannot do the work.
        """
        equipment = self._equipment
        equipment.reporter.begin(self._trial_id)
        equipment.writer.begin()
        try:
            trial = patiently(make_trial, equipment.patience_seconds, equipment.leaving)
            self._trial = trial
            if not self._take_up_end(trial):
                self._end(trial, *self._outcome(trial))
        except TrialInterrupted:
            self._write_what_can_be_stored()
            self._call(lambda: equipment.claims.give_back(self._trial_id))
            _log.info("trial %d given back", self._number)
        except TrialPaused:
            self._pause()
        except LeaseLost:
            self._drop()
        except DatabaseLost:
            raise PatienceExceeded(
                f"the database was out of reach for {equipment.reporter.outage_seconds:.0f} s, "
                "longer than worker.storage_patience; this worker ends"
            ) from None
        except PatienceExceeded:
            raise
        except StorageUnavailable as error:
            reason = " ".join(str(error).split())
            raise PatienceExceeded(
                f"the storage failed in trial {self._number}: {reason}"
            ) from error
        except MachineFault as fault:
            self._leave(str(fault))
        except BaseException as error:  # whatever the objective or the sampler raises
            self._end_badly(error)
        finally:
            equipment.reporter.end()

    def _pause(self) -> None:
        equipment = self._equipment
        try:
            self._write_all()
        except Unstorable as error:
            self._end_badly(error)
            return
        if self._call(lambda: equipment.claims.pause(self._trial_id)):
            _log.info("trial %d waits for a promotion", self._number)
        else:
            self._drop()

    def _write_all(self) -> None:
        """Once more, and durably: a crash of the server may have lost some of it."""
        equipment = self._equipment
        writes = equipment.reporter.collect().everything
        if writes:
            self._call(lambda: equipment.claims.write(self._trial_id, writes))

    def _write_what_can_be_stored(self) -> None:
        try:
            self._write_all()
        except Unstorable:
            equipment = self._equipment
            writes = equipment.reporter.collect().everything.without_attributes()
            self._call(lambda: equipment.claims.write(self._trial_id, writes))

    def _outcome(self, trial: WorkerTrial) -> tuple[State, list[float] | None, str | None]:
        """Run the objective. Returns the state, the values, and the reason of a pruned trial."""
        try:
            if self._objective.space():
                trial.suggest_space()
            values = as_values(self._call_objective(trial), len(trial.study.directions))
            trial.check_names()
        except TrialPruned as error:
            return "PRUNED", _last_value(trial), words_of(error) or None
        if any(map(math.isnan, values)):
            return "PRUNED", None, "the objective returned nan"
        return "COMPLETE", values, None

    def _call_objective(self, trial: WorkerTrial) -> Any:
        try:
            return self._objective(trial)
        finally:
            if os.getpid() != self._process:
                self._end_stray_child()

    def _end_stray_child(self) -> None:
        """End a forked process that came back from the objective, as only its parent may."""
        if sys.exc_info()[1] is not None:
            traceback.print_exc()
        os._exit(1)

    def _end(
        self, trial: WorkerTrial, state: State, values: list[float] | None, reason: str | None
    ) -> None:
        attributes = self._attributes() | ({"orch:reason": reason} if reason else {})
        if trial.restarts:
            attributes["orch:restarts"] = trial.restarts
        try:
            self._record_end(trial, state, values, attributes)
        except PatienceExceeded:
            end = {
                "state": state,
                "values": values,
                "attributes": attributes,
                "noted": trial.noted(),
            }
            trial.keep_on_disk(Checkpoint(max(trial.values, default=0), {}, {"end": end}))
            raise

    def _take_up_end(self, trial: WorkerTrial) -> bool:
        """Record the end that an earlier worker of this machine could not deliver."""
        kept = trial.kept()
        if kept is None or "end" not in kept.facts:
            return False
        trial.restore()
        end = kept.facts["end"]
        trial.note(end.get("noted", {}))
        self._record_end(trial, end["state"], end["values"], end["attributes"])
        return True

    def _record_end(
        self,
        trial: WorkerTrial,
        state: State,
        values: list[float] | None,
        attributes: dict[str, Any],
    ) -> None:
        equipment = self._equipment
        # Optuna's own order: the sampler may store what it learnt while the trial is RUNNING.
        self._call(lambda: trial.tell_sampler(TrialState[state], values))
        needless: list[str] = []
        if trial.checkpoints:
            equipment.writer.flush(equipment.patience_seconds)
            checkpoints = self._call(lambda: equipment.claims.checkpoints(self._trial_id))
            needless = [artifact_id for artifact_id, _, _ in checkpoints]
        held = self._call(lambda: self._finish(state, values, attributes))
        equipment.unfinished.remove(trial.first_number)
        if not held:
            raise LeaseLost
        remove_artifacts(equipment.store, needless)
        # orch.keep_model would drop the others again, after all their bytes were written.
        if trial.model is not None and state == "COMPLETE" and trial.is_feasible:
            self._keep_model(trial.model)
        shown = " ".join(rounded(value, 5) for value in values or ()) or "no value"
        reason = attributes.get("orch:reason")
        why = f" ({reason})" if reason else ""
        _log.info("trial %d %s %s%s", self._number, state, shown, why)

    def _finish(self, state: State, values: list[float] | None, attributes: dict[str, Any]) -> bool:
        equipment, account = self._equipment, self._equipment.reporter.collect()
        if self._takes_next():
            return equipment.claims.finish_and_claim(
                self._trial_id, state, values, attributes, account, equipment.cursor()
            )
        return equipment.claims.finish(self._trial_id, state, values, attributes, account)

    def _keep_model(self, model: bytes) -> None:
        equipment = self._equipment
        try:
            artifact_id, digest = write_artifact(equipment.store, model)
            fallen = equipment.claims.keep_model(
                self._trial_id, artifact_id, digest, equipment.keep_models
            )
            remove_artifacts(equipment.store, fallen)
        except Exception as error:  # whatever a store raises; the trial itself has ended well
            _log.warning("the model of trial %d is not kept: %s", self._number, error)

    def _end_badly(self, error: BaseException) -> None:
        trial = self._trial
        ending = ending_of(error, trial is not None and trial.has_reported)
        if ending is Ending.MISUSED:
            self._stop_study(error)
        elif ending is Ending.MACHINE:
            self._leave(f"this machine's GPU or its driver is gone: {error}")
        else:
            certain = ending is Ending.CERTAIN
            self._fail(
                error, Failure("certain") if certain else Failure("failed", signature_of(error))
            )

    def _stop_study(self, error: BaseException) -> None:
        claims, reason = self._equipment.claims, words_of(error)
        if self._call(lambda: claims.stop_for_wrong_use(self._trial_id, reason)):
            raise error
        self._drop()

    def _leave(self, why: str) -> None:
        self._call(lambda: self._equipment.claims.give_back(self._trial_id))
        reason = " ".join(why.split())
        raise StudyFailed(f"{reason}; this worker ends, and trial {self._number} is given back")

    def _fail(self, error: BaseException, failure: Failure) -> None:
        # An objective finds the storage's URL in its environment, and may fail with it.
        claims = self._equipment.claims
        words = words_of(error)
        text = f"{type(error).__name__}{f': {words}' if words else ''}{_where(error)}"
        reason = hide(clean(text), claims.url)
        # Cut twice: a password that the first cut goes through must not show.
        whole = clean("".join(traceback.format_exception(error)).strip())
        lines = hide(whole[-2 * LONGEST_LOG :], claims.url)[-LONGEST_LOG:].splitlines()
        attributes = self._attributes() | {"orch:log": "\n".join(lines[-_LOG_LINES:])}
        self._write_what_can_be_stored()
        self._equipment.writer.flush(self._equipment.patience_seconds)
        if self._call(lambda: claims.fail(self._trial_id, reason, attributes, failure)):
            _log.warning("trial %d failed: %s\n%s", self._number, reason, "\n".join(lines))
        else:
            self._drop()

    def _drop(self) -> None:
        # The lease ran out, or the study was deleted: whoever took over knows better.
        _log.info("trial %d was taken back meanwhile; dropped", self._number)

    def _call(self, call: Callable[[], Result]) -> Result:
        return patiently(call, self._equipment.patience_seconds)

    def _attributes(self) -> dict[str, Any]:
        seconds, trial = time.monotonic() - self._started, self._trial
        return {
            **self._worker,
            "orch:seconds": round(seconds + (trial.seconds_before if trial else 0.0), 3),
            "orch:seed": trial.seed if trial else None,
        }


def _last_value(trial: WorkerTrial) -> list[float] | None:
    # Optuna's rule: the value of a pruned trial is the last one that it reported.
    values = trial.values
    last = values[max(values)] if values else math.nan
    return None if math.isnan(last) or len(trial.study.directions) > 1 else [last]


def _where(error: BaseException) -> str:
    place = users_line(error)
    return f" ({place[0]}, line {place[1]})" if place else ""
