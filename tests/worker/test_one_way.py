"""The way of a trial is read downwards: what the worker calls never calls the worker back."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import hooked
import pytest
from worker.workplace import SetAfterStep, Workplace

from orchestrator.errors import StudyFailed
from orchestrator.worker import worker as worker_module
from orchestrator.worker.trial import Trial

FOLDER = Path(worker_module.__file__).parent
WORKER = str(FOLDER / "worker.py")
# What runs one trial, in either thread.
BELOW = {
    str(FOLDER / f"{name}.py")
    for name in (
        "trial", "resume", "suggestion", "reporter", "checkpoints", "study",
    )
}  # fmt: skip


class CallsBack:
    """A profiler that notes where code of the worker runs above code of one of its trials."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.seen: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event != "call" or (name != WORKER and name not in BELOW):
            return
        self.seen.add(Path(name).stem)
        caller = frame.f_back
        while name == WORKER and caller is not None:
            if caller.f_code.co_filename in BELOW:
                self.found.add(f"{caller.f_code.co_qualname} -> {frame.f_code.co_qualname}")
            caller = caller.f_back


@pytest.mark.parametrize("leaves", [False, True])
def test_nothing_in_a_trial_calls_the_worker_back(
    place: Workplace, after_step: SetAfterStep, leaves: bool
) -> None:
    place.create(trials=3, pruner={"name": "hyperband", "max_resource": 4})
    worker, profiler = place.worker(), CallsBack()

    def act(trial: Trial, step: int) -> None:
        if leaves and step == 2:
            worker.stop.asked = True
        if not leaves and trial.number == 1:
            raise ValueError("on purpose")

    after_step(act)
    profiled = threading.Thread(target=_run, args=(worker, profiler))
    profiled.start()
    profiled.join(60)
    assert not profiled.is_alive() and hooked.Hooked.trained
    expected = {"worker", "trial", "resume", "suggestion", "reporter", "checkpoints", "study"}
    assert expected <= profiler.seen
    assert profiler.found == set()


def _run(worker: worker_module.Worker, profiler: CallsBack) -> None:
    threading.setprofile(profiler)  # for the threads that it starts
    sys.setprofile(profiler)
    try:
        with contextlib.suppress(StudyFailed):  # by the trial that raises on purpose
            worker.run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
