"""Simulation: a study whose workers search in simulated time, as with a database between them."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import optuna

from benchmarks.problems import Function, Table
from orchestrator.base.facts import DRAW_SECONDS, SAMPLER
from orchestrator.search.auto import AUTO, MODEL, choose
from orchestrator.search.older_trials import OlderTrials
from orchestrator.search.samplers import build_sampler
from orchestrator.spec.model import StudySpec
from orchestrator.worker.seeds import derive

_BEGIN = datetime(2026, 1, 1)


class Finished(NamedTuple):
    """A finished trial.

    Attributes:
        seconds: when it ended, in simulated time.
        regret: of the best value so far.
    """

    seconds: float
    regret: float


class _Running(NamedTuple):
    end: float
    number: int  # decides which of two that end at the same time is the first
    start: float
    trial: optuna.Trial
    value: float
    regret: float


class Simulation:
    """Asynchronous workers on one study.

    Args:
        searched: the problem.
        spec: the study.
        workers: how many.
        older: the trials of the studies with which it starts warm.
        one_repeat: a trial draws one of a table's repeats.
        trial_seconds: of a mean configuration; trials take as much longer or shorter than that as
            the problem says.

    Attributes:
        study: as the samplers see it.
        curve: the finished trials.
        drawing_seconds: the CPU time of all suggestions.
    """

    def __init__(
        self,
        searched: Table | Function,
        spec: StudySpec,
        workers: int,
        older: Sequence[OlderTrials] = (),
        *,
        one_repeat: bool = False,
        trial_seconds: float = 60.0,
    ) -> None:
        self._searched, self._spec, self._workers = searched, spec, workers
        self._older, self._one_repeat = older, one_repeat
        self._trial_seconds, self._scale = trial_seconds, trial_seconds / searched.mean_seconds
        self._rng = np.random.default_rng(10_000 + spec.training.seed)
        self.study = optuna.create_study()
        self._running: list[_Running] = []
        self._best = (np.inf, np.inf)
        self.curve: list[Finished] = []
        self.drawing_seconds = 0.0

    def run(self, trials: int, seconds: float = np.inf) -> None:
        """Search until this number of trials has finished, or the time is over."""
        for _ in range(self._workers):
            self._start(0.0)
        while len(self.curve) < trials and self._running[0].end <= seconds:
            now = self._finish()
            if len(self.curve) < trials:  # the last ones are not waited for
                self._start(now)

    def mean_time(self, trials: int) -> float:
        """How long the workers need for this number of trials of mean length."""
        return trials * self._trial_seconds / self._workers

    def regret_at(self, seconds: float) -> float:
        """Of the best value after so long, or of the first one where none had finished."""
        finished = [each.regret for each in self.curve if each.seconds <= seconds]
        return finished[-1] if finished else self.curve[0].regret

    def _start(self, now: float) -> None:
        began = time.process_time()
        number = len(self._running) + len(self.curve)
        name = self._spec.sampler.name
        if name == AUTO:
            name = choose(self._spec, number, self.study.get_trials(deepcopy=False)).sampler
        seed = derive(self._spec.training.seed, "sampler", number)
        self.study.sampler = build_sampler(self._spec, seed, self._older, name)
        trial = self.study.ask()
        point = self._searched.suggest(trial)
        spent = time.process_time() - began
        self.drawing_seconds += spent
        trial.set_user_attr(SAMPLER, name)
        if name == MODEL:
            trial.set_user_attr(DRAW_SECONDS, spent)
        outcome = self._searched.measure(point, self._rng, self._one_repeat)
        end = now + self._scale * outcome.seconds
        running = _Running(end, number, now, trial, outcome.value, outcome.regret)
        heapq.heappush(self._running, running)

    def _finish(self) -> float:
        """End the trial that ends next; when that is."""
        each = heapq.heappop(self._running)
        self.study.tell(each.trial, each.value)
        # The trial as the samplers see it: with the times of the simulation, not of today.
        told = self.study.get_trials(deepcopy=False)[each.number]
        told.datetime_start = _BEGIN + timedelta(seconds=each.start)
        told.datetime_complete = _BEGIN + timedelta(seconds=each.end)
        self._best = min(self._best, (each.value, each.regret))
        self.curve.append(Finished(each.end, float(self._best[1])))
        return each.end
