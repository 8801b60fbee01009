"""Trial: one trial's life in a worker, from its claim to its end.

:meth:`Trial.run` tells it from start to end. What the objective is given is the same object, an
:class:`optuna.Trial`: it suggests (``suggestion.py``), reports, prunes and saves checkpoints.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import TrialPruned
from optuna.trial import TrialState

from orchestrator.base import facts
from orchestrator.base.backoff import Stop
from orchestrator.base.printed import rounded
from orchestrator.errors import PatienceExceeded, StorageUnavailable, StudyFailed, Unstorable
from orchestrator.search.auto import AUTO, MODEL
from orchestrator.search.plans.rounds import end_of_round
from orchestrator.search.pruners import noted_rung, reads_others
from orchestrator.storage.claims import Claim, Claims, Failure
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.storable import as_logs, as_step, as_value, as_values
from orchestrator.training.base import Objective
from orchestrator.worker.checkpoints import Arrays, Checkpoint, Checkpoints, OfferedModel
from orchestrator.worker.endings import (
    DatabaseLost,
    End,
    Ending,
    LeaseLost,
    MachineFault,
    TrialInterrupted,
    TrialPaused,
    ending_of,
    is_of_command,
    reason_of,
    signature_of,
    stopped_study,
    traceback_of,
    words_of,
)
from orchestrator.worker.reporter import Reporter
from orchestrator.worker.resume import Capture, ResumableTrial
from orchestrator.worker.seeds import training_seed
from orchestrator.worker.study import WorkerStudy
from orchestrator.worker.suggestion import Configurations

_log = logging.getLogger("orch")

_FLUSH_SECONDS = 30.0
_LOG_LINES = 20
_TOO_LATE = (
    "a step is reported after its checkpoint; report it first, because a worker that goes on from "
    "the checkpoint does not report it"
)


class Trial(ResumableTrial):
    """One claimed trial. It survives the database, its process, and its machine.

    The main thread alone writes to it and to ``frozen``, its state; what the server tells of it
    while it runs here is passed over (``WorkerStorage.take``).

    Args:
        study: the study with its space, sampler and pruner.
        claim: the claim that brought it.
        objective: what it runs.
        claims: the worker's.
        reporter: sends what it writes.
        checkpoints: stores its state.
        stop: asks it to leave.
        worker: facts about the worker, recorded as user attributes.
        configurations: draw its parameters.

    Attributes:
        seed: seeds its training.
        steps: how many values a full trial reports; None: unknown. An objective may set it.
    """

    def __init__(
        self,
        study: WorkerStudy,
        claim: Claim,
        objective: Objective,
        claims: Claims,
        reporter: Reporter,
        checkpoints: Checkpoints,
        stop: Stop,
        worker: Mapping[str, Any],
        configurations: Configurations,
    ) -> None:
        super().__init__(study, claim, claims, reporter, checkpoints)
        self._objective = objective
        self._stop = stop
        self._worker = worker
        self._configurations = configurations
        self._process = os.getpid()
        self._has_reported = False  # in this attempt
        # It goes on elsewhere from its state; a function shows it by its first call.
        self._is_resumable = objective.checkpoints
        self._reports_since_asked = 0
        self._saved_step: int | None = None
        self._is_decidable = True  # whether what the pruner reads is here
        self._model = OfferedModel(claims, checkpoints.store, study.spec)
        self.seed = training_seed(study.spec.training.seed, self.frozen)
        self.steps = objective.steps()
        # The step after which it waits for a promotion; None: it trains to its end.
        self._pause_after = (
            None if study.rounds is None else end_of_round(self.frozen, study.rounds)
        )

    def run(self) -> Claim | None:
        """Train; whatever the objective does, the trial ends, is released, or is saved here.

        Returns:
            The next claim, if it came with this trial's end.

        Raises:
            PatienceExceeded: the database stayed away too long.
            UsageError: no trial of the study can succeed; it is stopped.
            StudyFailed: this machine cannot do the work.
        """
        self._reporter.start_trial(self.id)
        self._checkpoints.start_trial()
        try:
            self._ask_sampler()
            return self._finish(self._saved_end() or self._train())
        except TrialInterrupted:
            self._release()
            _log.info("trial %d given back", self.number)
        except TrialPaused:
            self._pause()
        except LeaseLost:
            self._drop()
        except DatabaseLost:
            raise PatienceExceeded(
                f"the database was out of reach for {self._reporter.outage_seconds:.0f} s, "
                "longer than worker.storage_patience; this worker ends"
            ) from None
        except PatienceExceeded:
            raise
        except StorageUnavailable as error:
            reason = " ".join(str(error).split())
            raise PatienceExceeded(
                f"the storage failed in trial {self.number}: {reason}"
            ) from error
        except MachineFault as fault:
            self._leave(str(fault))
        except BaseException as error:  # whatever the objective or the sampler raises
            self._end_badly(error)
        finally:
            self._reporter.finish_trial()
            self.study.storage.finish_trial()
        return None

    def _train(self) -> End:
        try:
            self._configurations.draw(self)
            values = as_values(self._call_objective(), len(self.study.directions))
            self.check_names()
        except TrialPruned as pruned:
            return self._end("PRUNED", self._last_value(), words_of(pruned))
        if any(map(math.isnan, values)):
            return self._end("PRUNED", None, "the objective returned nan")
        return self._end("COMPLETE", values)

    def _call_objective(self) -> Any:
        try:
            return self._objective(self)
        finally:
            if os.getpid() != self._process:
                # A forked process that came back from the objective, as only its parent may.
                if sys.exc_info()[1] is not None:
                    traceback.print_exc()
                os._exit(1)

    # What the objective calls

    def restore(self) -> tuple[int, Arrays] | None:
        """See :meth:`ResumableTrial.restore`.

        Raises:
            RuntimeError: the attempt has reported already; what it reported would be lost.
        """
        if self._has_reported:
            raise RuntimeError("restore comes before the first report; call it at the start")
        self._is_resumable = True
        return super().restore()

    def report(self, value: float, step: int) -> None:
        """Record an intermediate value.

        Raises:
            TrialLeft: the trial cannot or must not go on here.
        """
        self._check_running()
        value, step = as_value(value), as_step(step)
        if step in self.frozen.intermediate_values:
            return  # Optuna's rule: the first value of a step counts
        self.frozen.intermediate_values[step] = value
        if not self._has_reported:
            self.check_names()
        if step == self._saved_step:
            _log.warning(_TOO_LATE)
        self._has_reported = True
        self._send(step, value)
        if not self._objective.checkpoints:
            self._leave_after_report(step)

    def _send(self, step: int, value: float) -> None:
        reporter, view, trial = self._reporter, self.study.pruned_view, self.frozen
        if view is not None and reads_others(view.pruner, view, trial):
            # What the pruner is going to note and to read goes with the value, in one round trip.
            for key, noted in noted_rung(view.pruner, view, trial).items():
                reporter.write_system_attribute(key, json.dumps(noted))
            self._is_decidable = reporter.send(step, value)
        else:
            reporter.post(step, value)  # no other trial's values decide about it
            self._is_decidable = reporter.outage_seconds == 0
        if reporter.lost:
            raise LeaseLost

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record further values of a step, e.g. the loss and the learning rate.

        They reach the database together with the step's report, where that follows. Where a name is
        logged twice for a step, the later value counts.
        """
        self._check_running()
        self._send_logs(as_logs(metrics, step))

    def should_prune(self) -> bool:
        """Ask the pruner; while the database is out of reach the trial goes on."""
        view = self.study.pruned_view
        if not self._is_decidable or view is None:
            return False
        try:
            with self.study.storage.impatient():
                return view.pruner.prune(view, self.latest())
        except StorageUnavailable:
            return False

    def checkpoint(self, step: int, capture: Capture | None) -> None:
        """Offer the state after a step, to resume from it elsewhere.

        Args:
            step: the last step in it; its value has been reported.
            capture: copies the state; called only when a checkpoint is due. None: the training
                cannot resume, and starts anew elsewhere.

        Raises:
            TrialLeft: the trial cannot or must not go on here.
        """
        self._check_running()
        step = self._saved_step = as_step(step)
        self._is_resumable = True
        if self._leave_if_asked(step, capture):
            return
        self._checkpoints.check()
        # Later where an objective reports several steps between two checkpoints.
        if self._pause_after is not None and step >= self._pause_after:
            if capture is not None:
                self._save_and_flush(self._capture(step, capture))
            raise TrialPaused
        if capture is None:
            return
        if self._checkpoints.are_due() and not self._is_last(step):
            self._checkpoints.save(self.id, self._capture(step, capture))

    @property
    def is_leaving(self) -> bool:
        """Whether the next checkpoint ends the trial here; see :class:`base.Trial`."""
        return self._stop.asked or self._reporter.lost

    def offer_model(self, value: float, save: Callable[[Path], object]) -> None:
        """Offer the finished model; it is kept if the trial is among the study's best.

        Args:
            value: the trial's value.
            save: writes the model to a file; called only when it may be kept.
        """
        self._check_running()
        self._model.offer(self.frozen, value, save)

    def __copy__(self) -> Trial:
        return self  # a handle to the same trial, as a pruning callback holds it

    def __deepcopy__(self, _: dict[int, Any]) -> Trial:
        return self

    def __reduce__(self) -> tuple[Callable[..., optuna.Trial], tuple[str, int]]:
        return _open_elsewhere, (self.study.study_name, self.id)

    # Leaving before the end

    @property
    def _is_cut_off(self) -> bool:
        return self._reporter.outage_seconds > self.study.spec.worker.storage_patience

    def _leave_after_report(self, step: int) -> None:
        """Leave when asked; with a checkpoint to come, that one or the next report is awaited."""
        is_asked = self._is_cut_off or self._stop.asked
        self._reports_since_asked = self._reports_since_asked + 1 if is_asked else 0
        if not self._is_resumable or self._reports_since_asked > 1:
            self._leave_if_asked(step, None)

    def _leave_if_asked(self, step: int, capture: Capture | None) -> bool:
        """End the trial here when it must. True: it must, but this was its last step."""
        if self._reporter.lost:
            raise LeaseLost
        cut_off = self._is_cut_off
        if not (cut_off or self._stop.asked):
            return False
        if self._is_last(step):
            return True
        state = None
        if capture is not None:
            state = self._capture(step, capture)
        if cut_off:
            if state is not None:
                self._save_here(state)
            raise DatabaseLost
        if state is not None:
            self._checkpoints.save(self.id, state)
        self._checkpoints.flush(_FLUSH_SECONDS)  # an earlier one may still be on its way
        raise TrialInterrupted

    def _save_and_flush(self, state: Checkpoint) -> None:
        self._checkpoints.save(self.id, state)
        self._checkpoints.flush(_FLUSH_SECONDS)

    def _is_last(self, step: int) -> bool:
        return self.steps is not None and step >= self.steps

    def _release(self) -> None:
        """Back to the queue, as the same attempt."""
        self._write_what_can_be_stored()
        self._checkpoints.flush(_FLUSH_SECONDS)
        self._claims.release(self.id)

    def _pause(self) -> None:
        for key, value in self._attributes().items():  # its plan may end it, without a worker
            self._reporter.write_user_attribute(key, json.dumps(value))
        try:
            self._write_all()
        except Unstorable as error:
            self._end_badly(error)
            return
        if self._claims.pause(self.id):
            _log.info("trial %d waits for a promotion", self.number)
        else:
            self._drop()

    def _write_all(self) -> None:
        """Once more, and durably: a crash of the server may have lost some of it."""
        writes = self._reporter.close_trial().everything
        if writes:
            self._claims.write(self.id, writes)

    def _write_what_can_be_stored(self) -> None:
        try:
            self._write_all()
        except Unstorable:
            writes = self._reporter.close_trial().everything.without_attributes()
            self._claims.write(self.id, writes)

    def _drop(self) -> None:
        # The lease ran out, or the study was deleted: whoever took over knows better.
        _log.info("trial %d was taken back meanwhile; dropped", self.number)

    # The end

    def _finish(self, end: End) -> Claim | None:
        """Record the end. Returns the next claim, if the worker wants another trial."""
        try:
            # Optuna's own order: the sampler may store what it learnt while the trial is RUNNING.
            self.study.tell_sampler(self.frozen, TrialState[end.state], end.values)
            needless: list[str] = []
            if self._is_resumable or not self._is_fresh:
                self._checkpoints.flush(self.study.spec.worker.storage_patience)
                needless = self._checkpoints.artifacts_of(self.id)
            is_recorded, claim = self._record(end)
        except PatienceExceeded:
            self._save_end(end)
            raise
        self._remove_saved()
        if not is_recorded:
            raise LeaseLost
        self._checkpoints.remove(needless)
        if end.state == "COMPLETE":
            self._model.store(self.frozen)
        shown = " ".join(rounded(value, 5) for value in end.values or ()) or "no value"
        reason = end.attributes.get(facts.REASON)
        why = f" ({reason})" if reason else ""
        _log.info("trial %d %s %s%s", self.number, end.state, shown, why)
        return claim

    def _record(self, end: End) -> tuple[bool, Claim | None]:
        """Whether the lease was held, and the next claim where one is wanted."""
        what = (self.id, end.state, end.values, end.attributes, self._reporter.close_trial())
        if self._stop.is_due or self.study.may_end:
            return self._claims.finish(*what), None
        claim = self._claims.finish_and_claim(*what, self.study.storage.position)
        return claim is not None, claim

    def _end(
        self,
        state: Literal["COMPLETE", "PRUNED"],
        values: list[float] | None,
        reason: str | None = None,
    ) -> End:
        attributes = self._attributes() | ({facts.REASON: reason} if reason else {})
        if self.restarts:
            attributes[facts.RESTARTS] = self.restarts
        return End(state, values, attributes)

    def _end_badly(self, error: BaseException) -> None:
        ending = ending_of(error, self._has_reported)
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
        reason = words_of(error)
        if self._claims.stop_for_wrong_use(self.id, reason):
            raise stopped_study(self.study.study_name, reason) from error
        self._drop()

    def _leave(self, why: str) -> None:
        self._claims.release(self.id)
        reason = " ".join(why.split())
        raise StudyFailed(f"{reason}; this worker ends, and trial {self.number} is given back")

    def _fail(self, error: BaseException, failure: Failure) -> None:
        reason, lines = reason_of(error, self._claims.url), traceback_of(error, self._claims.url)
        attributes = self._attributes() | {facts.LOG: "\n".join(lines[-_LOG_LINES:])}
        self._write_what_can_be_stored()
        self._checkpoints.flush(self.study.spec.worker.storage_patience)
        if self._claims.fail(self.id, reason, attributes, failure):
            # A command's last lines stand above: its output has passed through here.
            more = "" if is_of_command(error) else "\n" + "\n".join(lines)
            _log.warning("trial %d failed: %s%s", self.number, reason, more)
        else:
            self._drop()

    def _attributes(self) -> dict[str, Any]:
        return {
            **self._worker,
            facts.SECONDS: round(self.seconds, 3),
            facts.SEED: self.seed,
            **self._sampler(),
        }

    def _sampler(self) -> dict[str, Any]:
        """Which sampler drew it, where the study leaves that open."""
        if self.drawn_by is None or self.study.spec.sampler.name != AUTO:
            return {}
        if self.drawn_by != MODEL:
            return {facts.SAMPLER: self.drawn_by}
        return {facts.SAMPLER: self.drawn_by, facts.DRAW_SECONDS: round(self.draw_seconds, 4)}

    def _last_value(self) -> list[float] | None:
        # Optuna's rule: the value of a pruned trial is the last one that it reported.
        values = self.frozen.intermediate_values
        last = values[max(values)] if values else math.nan
        return [last] if self._has_one_metric and not math.isnan(last) else None

    @property
    def _has_one_metric(self) -> bool:
        return len(self.study.directions) == 1


class _TrialElsewhere(optuna.Trial):
    """A pickled trial in another process of the objective: what it writes arrives from there."""

    def __init__(self, study: str, trial_id: int, storage: PostgresStorage) -> None:
        super().__init__(optuna.Study(study, storage), trial_id)
        self._write_logs = partial(storage.set_trial_logs, trial_id)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See :meth:`Trial.log`."""
        self._write_logs(as_logs(metrics, step))


def _open_elsewhere(study: str, trial_id: int) -> optuna.Trial:
    return _TrialElsewhere(study, trial_id, PostgresStorage(Database(os.environ["ORCH_STORAGE"])))
