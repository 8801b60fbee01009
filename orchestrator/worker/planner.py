"""Planner: a worker's part in what a study tries next, and in when it ends by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import optuna

from orchestrator.base.backoff import patiently
from orchestrator.errors import StorageError
from orchestrator.resolve.objective import full_steps
from orchestrator.search.plans import build_plan
from orchestrator.search.plans.plan import is_open
from orchestrator.search.plans.promotion import build_brackets
from orchestrator.search.space import Space
from orchestrator.search.terminators import build_terminator, is_over
from orchestrator.spec.model import StudySpec
from orchestrator.storage.artifacts import remove_artifacts
from orchestrator.training.base import Objective
from orchestrator.worker.equipment import Equipment
from orchestrator.worker.study import ALL_TRIED

if TYPE_CHECKING:
    from optuna.terminator import BaseTerminator

_log = logging.getLogger("orch")
Result = TypeVar("Result")


class Planner:
    """Asks the study's plan and its terminator, and sends their answers to the server.

    Args:
        spec: the study.
        objective: its objective.
        space: its search space.
        study: the Optuna study, for its trials.
        equipment: the worker's.
    """

    def __init__(
        self,
        spec: StudySpec,
        objective: Objective,
        space: Space,
        study: optuna.Study,
        equipment: Equipment,
    ) -> None:
        steps = full_steps(spec, objective)
        self.brackets = build_brackets(spec, steps)
        self._plan = build_plan(spec, space, objective.is_active, steps)
        self._terminator = build_terminator(spec)
        self._spec = spec
        self._study = study
        self._equipment = equipment
        self._has_warned = False

    @property
    def may_end_search(self) -> bool:
        """Whether the study may end after any trial, so that no next one is to be taken with it."""
        return self._terminator is not None

    def plan(self, stage: int, budget: int) -> bool:
        """Do what the plan wants next, unless another worker does it first.

        Args:
            stage: the study's stage when its queue was found empty.
            budget: how many trials the study ends with.

        Returns:
            Whether there may be work now.
        """
        assert self._plan is not None
        claims, plan = self._equipment.claims, self._plan
        trials = self._call(lambda: self._study.get_trials(deepcopy=False))
        step = plan.step(trials, budget)
        if step:
            needless = self._call(
                lambda: [
                    artifact_id
                    for trial_id in step.prune
                    for artifact_id, _, _ in claims.checkpoints(trial_id)
                ]
            )
            if self._call(lambda: claims.advance(stage, step.queue, step.promote, step.prune)):
                remove_artifacts(self._equipment.store, needless)
        elif not is_open(trials):
            self._call(lambda: claims.exhaust(ALL_TRIED, stage))
        return bool(step)

    def end_search(self, because: str | None) -> None:
        """End the study when its sampler or its objective says so, or no gain is expected."""
        claims, terminator = self._equipment.claims, self._terminator
        if because is not None:
            self._call(lambda: claims.exhaust(because, None))
        elif terminator is not None and self._call(lambda: self._is_over(terminator)):
            self._call(lambda: claims.exhaust("no worthwhile gain is expected", None))

    def _is_over(self, terminator: BaseTerminator) -> bool:
        """What the terminator says; one that cannot judge these trials ends no search."""
        try:
            with np.errstate(all="ignore"):  # the objective may let NumPy raise
                return is_over(terminator, self._study, self._spec)
        except StorageError:
            raise
        except Exception as error:  # whatever Optuna's evaluators, or their libraries, raise
            if not self._has_warned:
                _log.warning("the terminator cannot judge these trials: %s", error)
            self._has_warned = True
            return False

    def _call(self, call: Callable[[], Result]) -> Result:
        return patiently(call, self._equipment.patience_seconds)
