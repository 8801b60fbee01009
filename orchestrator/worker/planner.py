"""Planner: a worker's part in what a study tries next, and in when its search ends by itself."""

from __future__ import annotations

import logging

import numpy as np

from orchestrator.errors import StorageError
from orchestrator.resolve.objective import full_steps
from orchestrator.search.plans import build_plan
from orchestrator.search.plans.plan import is_open
from orchestrator.search.terminators import is_over
from orchestrator.storage.claims import Claims
from orchestrator.training.base import Objective
from orchestrator.worker.checkpoints import Checkpoints
from orchestrator.worker.study import ALL_TRIED, WorkerStudy

_log = logging.getLogger("orch")


class Planner:
    """Asks the study's plan and its terminator, and sends their answers to the server.

    Args:
        study: the study, with its trials and its terminator.
        objective: its objective.
        claims: the worker's.
        checkpoints: has those of the trials that a plan ends.
    """

    def __init__(
        self, study: WorkerStudy, objective: Objective, claims: Claims, checkpoints: Checkpoints
    ) -> None:
        steps = full_steps(study.spec, objective)
        self._plan = build_plan(study.spec, study.space, objective.exists, steps)
        self._study = study
        self._claims = claims
        self._checkpoints = checkpoints
        self._has_warned = False

    def advance(self, stage: int, budget: int) -> bool:
        """Do what the plan wants next, unless another worker does it first.

        Args:
            stage: the study's stage when its queue was found empty.
            budget: how many trials the study ends with.

        Returns:
            Whether there may be work now.
        """
        assert self._plan is not None
        trials = self._study.get_trials(deepcopy=False)
        step = self._plan.step(trials, budget)
        if step:
            needless = [
                artifact_id
                for trial_id in step.prune
                for artifact_id in self._checkpoints.artifacts_of(trial_id)
            ]
            if self._claims.advance(stage, step.queue, step.promote, step.prune):
                self._checkpoints.remove(needless)
        elif not is_open(trials):
            self._claims.exhaust(ALL_TRIED, stage)
        return bool(step)

    def end_search(self) -> None:
        """End the study when its sampler or its objective says so, or no gain is expected."""
        if self._study.ends_because is not None:
            self._claims.exhaust(self._study.ends_because, None)
        elif self._study.terminator is not None and self._expects_no_gain():
            self._claims.exhaust("no worthwhile gain is expected", None)

    def _expects_no_gain(self) -> bool:
        """What the terminator says; one that cannot judge these trials ends no search."""
        assert self._study.terminator is not None
        try:
            with np.errstate(all="ignore"):  # the objective may let NumPy raise
                return is_over(self._study.terminator, self._study, self._study.spec)
        except StorageError:
            raise
        except Exception as error:  # whatever Optuna's evaluators, or their libraries, raise
            if not self._has_warned:
                _log.warning("the terminator cannot judge these trials: %s", error)
            self._has_warned = True
            return False
