"""Pruning: the epochs that it saved, and how many trials reached each rung of Hyperband.

L. Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
JMLR 18 (2018); the asynchronous rungs are those of L. Li et al., "A System for Massively
Parallel Hyperparameter Tuning" (2020), as Optuna implements them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel

from orchestrator.base.facts import BRACKET, PAUSED
from orchestrator.base.optuna_internals import bracket_of, bracket_pruners
from orchestrator.report.numbers import step_word
from orchestrator.search.plans.rounds import Rounds
from orchestrator.storage.studies import KERASTUNER, Origin, StoredStudy


class Epochs(BaseModel):
    """Epochs trained, lost attempts included, beside what the same trials cost unpruned.

    A trial that still runs costs what it has trained; a paused one is held back, as a pruned one.
    """

    trained: int
    without_pruning: int
    saved_ratio: float | None


class EpochCounter:
    """Turns the values that trials report into epochs.

    Args:
        study: the study, with what it has stored of its objective: a report can be read anywhere.
        origin: of an imported study.

    Attributes:
        steps: how many values a trial reports that is never pruned.
        has_epochs: the objective trains in epochs; a plain function just reports values.
        is_assumed: ``steps`` is a guess: how often a function reports, only its trials show.
    """

    def __init__(self, study: StoredStudy, origin: Origin | None = None) -> None:
        self._training = study.spec.training
        self._kerastuner = 0  # trials from there keep one value each, however long they trained
        if origin is not None and origin.tool == KERASTUNER:
            self._kerastuner = origin.trials
        self.steps, self.has_epochs = study.facts.steps, study.facts.has_epochs
        is_one_run = study.spec.training.rounds == 1 and not self.has_epochs
        self.is_assumed = is_one_run and study.facts.is_open

    def count(self, trials: Sequence[FrozenTrial]) -> Epochs:
        """Of all trials together."""
        trained = sum(map(self._of_trial, trials))
        ended, running = list[FrozenTrial](), list[FrozenTrial]()
        for trial in trials:
            if trial.state == TrialState.FAIL:
                continue
            is_held = trial.state.is_finished() or PAUSED in trial.system_attrs
            (ended if is_held else running).append(trial)
        # An objective that reports nothing has no epochs to save.
        full = sum(self._full(ended)) if trained else 0
        if full:
            full += sum(map(self._of_trial, running))
        if all(map(self._is_of_kerastuner, ended)):
            full = 0  # how many there would have been without pruning it does not say
        saved = None if trained == 0 or full == 0 else round(1 - trained / full, 4)
        return Epochs(trained=trained, without_pruning=full, saved_ratio=saved)

    def _full(self, ended: Sequence[FrozenTrial]) -> Iterable[int]:
        """What each trial costs without pruning."""
        if not self.is_assumed:
            return map(self._of_full_trial, ended)
        complete = [len(t.intermediate_values) for t in ended if t.state == TrialState.COMPLETE]
        if not complete:
            return []
        return (max(*complete, len(trial.intermediate_values)) for trial in ended)

    @property
    def unit(self) -> str:
        """What is counted, in a word."""
        return "epoch" if self.has_epochs else step_word(False, self._training.rounds)

    def of_one_training(self, trial: FrozenTrial) -> int:
        """Of one training of a complete trial."""
        if self._is_of_kerastuner(trial):
            return int(trial.user_attrs.get("kerastuner:tuner/epochs", 0))
        if self._training.rounds == 1:
            return len(trial.intermediate_values)
        return self._of_value(trial)

    def _of_trial(self, trial: FrozenTrial) -> int:
        if not self._is_of_kerastuner(trial):
            return len(trial.intermediate_values) * self._of_value(trial)
        # Only Hyperband writes how many epochs it trained, and from where it went on.
        attributes = trial.user_attrs
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return 0
        begun = int(attributes.get("kerastuner:tuner/initial_epoch", 0))
        return int(attributes.get("kerastuner:tuner/epochs", begun)) - begun

    def _is_of_kerastuner(self, trial: FrozenTrial) -> bool:
        return trial.number < self._kerastuner

    def _of_value(self, trial: FrozenTrial) -> int:
        # A fold or repeat is one value, and a whole training.
        one = self._training.rounds == 1 or not self.has_epochs
        return 1 if one else self._of_full_training(trial)

    def _of_full_trial(self, trial: FrozenTrial) -> int:
        # A complete trial was not pruned, though it may have ended early by itself.
        if self._is_of_kerastuner(trial) or trial.state == TrialState.COMPLETE:
            return self._of_trial(trial)
        searched = _searched(trial)
        if self._training.rounds == 1 and searched is not None:
            return searched
        return self.steps * self._of_value(trial)

    def _of_full_training(self, trial: FrozenTrial) -> int:
        searched = _searched(trial)
        return self._training.epochs if searched is None else searched


def _searched(trial: FrozenTrial) -> int | None:
    """The epochs where they are searched; a function's parameter of that name may be a word."""
    epochs = trial.params.get("epochs")
    return int(epochs) if isinstance(epochs, int | float) and math.isfinite(epochs) else None


class Rung(BaseModel):
    """One rung. ``resource`` is in epochs (reported steps); the counts are trials."""

    bracket: int
    resource: int
    reached: int
    passed: int


class Ladder:
    """The brackets of a study, and the resources of their rungs.

    Args:
        study: the study.
        pruner: its pruner; None where it cannot be made here.
        options: the spec's options of the pruner.
        rounds: of a study that promotes; None of any other.
    """

    def __init__(
        self,
        study: optuna.Study,
        pruner: BasePruner | None,
        options: Mapping[str, Any],
        rounds: Rounds | None,
    ) -> None:
        self._study = study
        self._pruner = pruner
        self._rounds = rounds
        by_hyperband = isinstance(pruner, HyperbandPruner)
        self._factor = int(options.get("reduction_factor", 3 if by_hyperband else 4))
        least = options.get("min_resource", 1)
        # ASHA's "auto": each process finds its own, from a trial that is complete.
        self._least = int(least) if least != "auto" else None
        self._early = int(options.get("min_early_stopping_rate", 0))

    def bracket_of(self, trial: FrozenTrial) -> int | None:
        """The bracket of a trial; None where the pruner has no brackets."""
        if self._rounds is not None:
            place = trial.system_attrs.get(BRACKET)
            return None if place is None else self._rounds.bracket(int(place))
        if isinstance(self._pruner, HyperbandPruner):
            bracket_pruners(self._pruner, self._study)
            return bracket_of(self._pruner, self._study, trial)
        return 0 if isinstance(self._pruner, SuccessiveHalvingPruner) else None

    def rungs(self, trials: list[FrozenTrial]) -> list[Rung]:
        """The rung table; empty under a pruner without brackets."""
        by_bracket: dict[int, list[FrozenTrial]] = {}
        for trial in trials:
            bracket = self.bracket_of(trial)
            if bracket is not None:
                by_bracket.setdefault(bracket, []).append(trial)
        return [
            _rung(bracket, resource, members)
            for bracket, members in sorted(by_bracket.items())
            for resource in self._resources(bracket, members)
        ]

    def _resources(self, bracket: int, members: list[FrozenTrial]) -> list[int]:
        if self._rounds is not None:
            return self._rounds.ends(bracket)
        if self._least is None:
            return []
        furthest = max((trial.last_step or 0 for trial in members), default=0)
        resources = []
        resource = self._least * self._factor ** (self._early + bracket)
        while resource <= furthest:
            resources.append(resource)
            resource *= self._factor
        return resources


def _rung(bracket: int, resource: int, members: list[FrozenTrial]) -> Rung:
    reached = [trial for trial in members if (trial.last_step or 0) >= resource]
    passed = [
        trial
        for trial in reached
        if trial.state == TrialState.COMPLETE or (trial.last_step or 0) > resource
    ]
    return Rung(bracket=bracket, resource=resource, reached=len(reached), passed=len(passed))
