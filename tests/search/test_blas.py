"""A sampler computes with one BLAS thread, and leaves the process as it was.

Each in a process of its own: OpenBLAS heeds the first thread of a process that sets the number, and
no other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

_BEGINNING = """
import json, sys, threading
import optuna
from threadpoolctl import ThreadpoolController
from orchestrator.samplers import MixedGP
from orchestrator.search import gaussian_process
from orchestrator.search.blas import one_blas_thread

def threads():
    blas = ThreadpoolController().select(user_api="blas").info()
    return sorted({each["num_threads"] for each in blas})

seen, before = [], threads()
"""
_SUGGESTION = """
def profile(frame, event, argument):
    if event == "call" and frame.f_code.co_filename == gaussian_process.__file__ and len(seen) < 20:
        seen.append(threads())

study = optuna.create_study(sampler=MixedGP(seed=0, n_startup_trials=4))
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
sys.setprofile(profile)
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
sys.setprofile(None)
"""
_ERROR = """
try:
    with one_blas_thread():
        seen.append(threads())
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
"""
_OTHER_THREADS = """
def compute():
    for _ in range(20):
        with one_blas_thread():
            seen.append(threads())

others = [threading.Thread(target=compute) for _ in range(4)]
for each in others:
    each.start()
with one_blas_thread():
    pass
for each in others:
    each.join()
"""
_END = "print(json.dumps([seen, threads() == before]))"


def _run(script: str) -> tuple[list[list[int]], bool]:
    """The numbers of threads while something is computed; whether it is as before afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGINNING + script + _END],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    seen, is_as_before = json.loads(done.stdout)
    return seen, is_as_before


def test_a_suggestion_is_computed_by_one_thread() -> None:
    seen, is_as_before = _run(_SUGGESTION)
    assert seen and all(each == [1] for each in seen)
    assert is_as_before


def test_an_error_leaves_as_many_threads_as_before() -> None:
    assert _run(_ERROR) == ([[1]], True)


def test_threads_that_draw_at_the_same_time_leave_as_many_threads_as_before() -> None:
    seen, is_as_before = _run(_OTHER_THREADS)
    assert len(seen) == 80
    assert is_as_before
