"""Simulated searches in several processes of one core each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Job = TypeVar("Job")
Run = TypeVar("Run")


def run_all(run: Callable[[Job], Run], jobs: Sequence[Job], processes: int) -> list[Run]:
    """What each search gives, in the order of the jobs; a terminal shows how many are done."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # read when a child process loads NumPy
    runs: list[Run] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for each in pool.map(run, jobs):
            runs.append(each)
            if sys.stderr.isatty():
                end = "\n" if len(runs) == len(jobs) else ""
                print(
                    f"\r{len(runs)} of {len(jobs)} searches", end=end, file=sys.stderr, flush=True
                )
    return runs
