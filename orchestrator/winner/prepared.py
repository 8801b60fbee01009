"""The objective of a study, ready to train in this process, which is no worker."""

from __future__ import annotations

import os

from orchestrator.resolve.objective import make_objective, search_space, useful_threads
from orchestrator.search.space import Space
from orchestrator.study import StoredStudy
from orchestrator.training.base import Objective
from orchestrator.training.registry import locate
from orchestrator.worker.devices import cores
from orchestrator.worker.pinned import check_data


def prepare_objective(study: StoredStudy, threads: int | None) -> tuple[Objective, Space]:
    """The study's objective, ready to train in this process, and its space.

    Args:
        study: the study.
        threads: CPU threads to use; None: those that are useful.

    Raises:
        StudyFailed: this machine's data are not the study's.
        UsageError: no such objective here.
    """
    if threads is not None:
        # TensorFlow reads these when it is imported.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    objective = make_objective(study.spec)
    locate(study.spec.study.objective).run_from_here()
    check_data(study, objective)
    space = search_space(study.spec, objective)
    objective.prepare(useful_threads(objective, space, cores()) if threads is None else threads)
    return objective, space
