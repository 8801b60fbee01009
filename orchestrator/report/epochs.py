"""Epochs: how many a study trained, and how many the same trials cost without pruning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial, TrialState

from orchestrator.report.numbers import step_word
from orchestrator.report.summary import Epochs
from orchestrator.spec.origin import KERASTUNER, Origin
from orchestrator.storage.studies import StoredStudy


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
        ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        # An objective that reports nothing has no epochs to save.
        full = sum(self._full(ended)) if trained else 0
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
        if self._is_of_kerastuner(trial):
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
