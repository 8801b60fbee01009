"""A worker in its caller's own process: for a debugger, for prints, for closures that collect."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from orchestrator.base.backoff import Stop
from orchestrator.storage.connection import answer_seconds, answer_within
from orchestrator.training.base import Objective
from orchestrator.worker.endings import TrialInterrupted
from orchestrator.worker.worker import Worker, WorkerOptions


class GuestWorker(Worker):
    """Runs the trials of a study in this thread. Ctrl-C gives the trial back, and ends the worker.

    Args:
        url: the database.
        study_name: the study.
        timeout: seconds after which it takes no further trial; None: none.
    """

    def __init__(self, url: str, study_name: str, timeout: float | None) -> None:
        self._seconds_before = answer_seconds()
        super().__init__(url, study_name, WorkerOptions(uuid4(), timeout=timeout))
        self._objective: Any = _Interruptible(self._objective, self.stop)

    def run(self) -> None:
        """Work until the study is done; see :meth:`Worker.run`.

        Raises:
            KeyboardInterrupt: it was interrupted; its trial is given back.
        """
        try:
            super().run()
        finally:
            answer_within(self._seconds_before)  # the caller's own studies wait as they did
        if self.leaving:
            raise KeyboardInterrupt


class _Interruptible:
    """An objective that a KeyboardInterrupt ends as a worker leaves: it costs no attempt."""

    def __init__(self, objective: Objective, stop: Stop) -> None:
        self._objective = objective
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def __call__(self, trial: Any) -> Any:
        try:
            return self._objective(trial)
        except KeyboardInterrupt:
            self._stop.asked = True
            raise TrialInterrupted from None
