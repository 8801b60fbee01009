"""Training a recorded trial again in this process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from orchestrator.base.optuna_internals import IN_MEMORY_LOGGER, HookedStudy, HookedTrial
from orchestrator.errors import ObjectiveError, OrchError
from orchestrator.resolve.objective import make_objective, search_space, useful_threads
from orchestrator.resolve.pins import check_data
from orchestrator.search.space import Space, as_suggested
from orchestrator.spec.choices import domain_of, place_of, stored_form
from orchestrator.spec.domains import Conditions
from orchestrator.storage.studies import StoredStudy
from orchestrator.training import handover
from orchestrator.training.base import Objective
from orchestrator.training.registry import locate
from orchestrator.worker.checkpoints import Arrays, Place, place
from orchestrator.worker.process import cores

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class Restarted(BaseException):
    """The recorded training stopped here, and went on from this checkpoint."""


class RecordedStudy(HookedStudy):
    """What an objective saw of its study when a recorded trial began, in memory.

    Args:
        study: the study.
        trial: the recorded trial.
        trials: all of the study.
    """

    def __init__(
        self, study: StoredStudy, trial: FrozenTrial, trials: Sequence[FrozenTrial]
    ) -> None:
        storage = InMemoryStorage()
        directions = [StudyDirection[each.upper()] for each in study.spec.study.directions]
        with _without_news():
            study_id = storage.create_new_study(directions, study.name)
        for each in trials:
            if _ended_before(each, trial):
                storage.create_new_trial(study_id, template_trial=each)
        super().__init__(study.name, storage, RandomSampler())

    def begin_trial(self) -> int:
        """A new trial; its id."""
        return self.storage.create_new_trial(self.study_id)

    def stop(self) -> None:
        """Nothing is to be stopped."""


@contextmanager
def _without_news() -> Iterator[None]:
    """Optuna announces each study that it makes; nobody has asked for this one."""
    log = logging.getLogger(IN_MEMORY_LOGGER)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _ended_before(one: FrozenTrial, other: FrozenTrial) -> bool:
    if one.datetime_complete is None or other.datetime_start is None:
        return False
    return one.datetime_complete <= other.datetime_start


class RecordedTrial(HookedTrial):
    """An ``optuna.Trial`` with the parameters of a recorded one; what it writes stays in memory.

    Args:
        study: as the recorded trial saw it.
        params: the recorded parameters.
        number: the recorded number.
        seed: the training's seed.
        pruned_at: the step after which it was pruned; None: it was not.
        restarts: the checkpoints from which the recorded training went on.
    """

    def __init__(
        self,
        study: RecordedStudy,
        params: Mapping[str, Any],
        number: int,
        seed: int,
        pruned_at: int | None = None,
        restarts: list[Place] | None = None,
    ) -> None:
        super().__init__(study, study.begin_trial())
        self.seed = seed
        self.steps: int | None = None
        self.reported: dict[int, float] = {}
        self._recorded = dict(params)
        self._recorded_number = number
        self._space: Space = {}
        self._conditions = Conditions()
        self._pruned_at = pruned_at
        self._restarts = list(restarts or [])
        self._state: tuple[int, Arrays] | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> RecordedTrial:
        return self  # a handle to the same trial, as in a worker

    @property
    def number(self) -> int:
        return self._recorded_number

    def suggest_space(self, space: Space, objective: Objective) -> None:
        """Take every active parameter of the space from the record; a function suggests its own.

        Raises:
            OrchError: the record lacks one.
        """
        self._space = space
        self._conditions = objective.settings.conditions
        if not objective.space():
            return
        for name, distribution in space.items():
            if objective.exists(name, self.params):
                try:
                    self.suggest(name, distribution)
                except ValueError as error:
                    raise OrchError(
                        f"trial {self.number} does not fit the space: {error}"
                    ) from None

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.suggest(name, domain_of(choices))

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if self.lacks(name):
            return None
        if name not in self._recorded:
            raise ValueError(f"the record has no parameter '{name}'")
        value = self._recorded[name]
        domain = self._space.get(name, distribution)
        if isinstance(domain, CategoricalDistribution):
            # The record has what JSON makes of a tuple or an enum; the objective gets its own.
            value = domain.choices[place_of(stored_form(domain), value)]
        else:
            domain.to_internal_repr(value)  # refuses another value
        self.frozen.params[name] = value
        self.frozen.distributions[name] = domain
        return as_suggested(value, distribution)

    def lacks(self, name: str) -> bool:
        return not self._conditions.hold(name, self._recorded)

    def check_domain(self, name: str, distribution: BaseDistribution) -> None:
        if name not in self._space:
            super().check_domain(name, distribution)

    def report(self, value: float, step: int) -> None:
        self.reported.setdefault(int(step), float(value))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Nothing is kept."""

    def should_prune(self) -> bool:
        return self._pruned_at is not None and max(self.reported, default=0) >= self._pruned_at

    is_leaving = False

    def checkpoint(
        self, step: int, capture: Callable[[], Mapping[str, NDArray[Any]]] | None
    ) -> None:
        """Stop and go on from here where the record says so.

        Raises:
            Restarted: call the objective again.
        """
        if capture is not None and self._restarts and self._restarts[0][0] == step:
            arrays = dict(capture())
            if place(step, arrays) == self._restarts[0]:
                self._restarts.pop(0)
                self._state = (step, arrays)
                raise Restarted

    def restore(self) -> tuple[int, Arrays] | None:
        return self._state

    def offer_model(self, value: float, save: Callable[[Path], object]) -> None:
        """Nothing is kept."""


@contextmanager
def retraining(study: StoredStudy, threads: int | None) -> Iterator[tuple[Objective, Space]]:
    """The study's objective, ready to train in this process, and its space.

    The process is its caller's: what the objective needs of it holds inside the block alone.

    Args:
        study: the study.
        threads: CPU threads to use; None: those that are useful.

    Raises:
        StudyFailed: this machine's data are not the study's.
        UsageError: no such objective here.
    """
    with _threads(threads), _as_script(study.spec.study.objective):
        objective = make_objective(study.spec)
        check_data(study, objective)
        space = search_space(study.spec, objective)
        if threads is None:
            threads = useful_threads(objective, space, cores())
        objective.prepare(threads)
        yield objective, space


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """TensorFlow reads these variables when it is imported."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    for name, value in before.items():
        if threads is not None and value is None:
            os.environ[name] = str(threads)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextmanager
def _as_script(reference: str) -> Iterator[None]:
    """Let the objective import what lies beside it, as ``python file.py`` would."""
    arguments, path = sys.argv, list(sys.path)
    if not handover.is_by_value(reference):
        with suppress(ObjectiveError):  # whoever makes the objective says what is wrong
            locate(reference).run_from_here()
    try:
        yield
    finally:
        sys.argv = arguments
        sys.path[:] = path
