"""One attempt at a trial: run the objective and record how it ended."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, Literal

from optuna.exceptions import StorageInternalError, TrialPruned, UpdateFinishedTrialError
from sqlalchemy.exc import SQLAlchemyError

from objectives.base import Objective
from orchestrator.errors import StorageError
from orchestrator.worker.claim import Claims
from orchestrator.worker.trial import TrialInterrupted, WorkerTrial

_log = logging.getLogger("orch")


class Attempt:
    """Runs one claimed trial to its end."""

    def __init__(self, claims: Claims, objective: Objective, worker: str, number: int) -> None:
        self._claims = claims
        self._objective = objective
        self._worker = worker
        self._number = number
        self._started = time.monotonic()
        self._seed: int | None = None

    def run(
        self, trial_id: int, make_trial: Callable[[], WorkerTrial], suggest_first: bool
    ) -> None:
        """Run the objective; whatever it does, the trial ends or is given back.

        Raises:
            StorageError: the database is out of reach; the lease will run out.
        """
        try:
            trial = make_trial()
            self._seed = trial.seed
            if suggest_first:
                trial.suggest_space()
            value = _as_value(self._objective(trial))
        except TrialInterrupted:
            self._claims.give_back(trial_id)
            _log.info("trial %d given back", self._number)
        except TrialPruned as error:
            self._end(trial, "PRUNED", _last_value(trial), str(error) or None)
        except UpdateFinishedTrialError:
            self._drop()
        except (StorageError, StorageInternalError, SQLAlchemyError) as error:
            raise StorageError(
                f"the storage failed during trial {self._number}: {' '.join(str(error).split())}"
            ) from error
        except Exception as error:
            self._fail(trial_id, error)
        else:
            if math.isnan(value):
                self._end(trial, "PRUNED", None, "the objective returned nan")
            else:
                self._end(trial, "COMPLETE", value, None)

    def _end(
        self,
        trial: WorkerTrial,
        state: Literal["COMPLETE", "PRUNED"],
        value: float | None,
        reason: str | None,
    ) -> None:
        values = None if value is None else [value]
        # Optuna's own order: the sampler may store what it learnt while the trial is RUNNING.
        trial.study.sampler.after_trial(trial.study, _frozen(trial), _state(state), values)
        attributes = self._attributes() | ({"orch:reason": reason} if reason else {})
        if not self._claims.finish(trial._trial_id, state, value, attributes):
            self._drop()
            return
        shown = "no value" if value is None else f"{value:.5g}"
        why = f" ({reason})" if reason else ""
        _log.info("trial %d %s %s%s", self._number, state, shown, why)

    def _drop(self) -> None:
        # The lease ran out, or the study was deleted: whoever took over knows better.
        _log.info("trial %d was taken back meanwhile; dropped", self._number)

    def _fail(self, trial_id: int, error: Exception) -> None:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if self._claims.fail(trial_id, reason, self._attributes()):
            _log.warning("trial %d failed: %s", self._number, reason, exc_info=error)
        else:
            self._drop()

    def _attributes(self) -> dict[str, Any]:
        return {
            "orch:worker": self._worker,
            "orch:seconds": round(time.monotonic() - self._started, 3),
            "orch:seed": self._seed,
        }


def _as_value(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"the objective returned {value!r}; it must return a number") from None


def _last_value(trial: WorkerTrial) -> float | None:
    # Optuna's rule: the value of a pruned trial is the last one that it reported.
    frozen = _frozen(trial)
    if frozen.last_step is None:
        return None
    value = frozen.intermediate_values[frozen.last_step]
    return None if math.isnan(value) else value


def _frozen(trial: WorkerTrial) -> Any:
    return trial.study._storage.get_trial(trial._trial_id)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
