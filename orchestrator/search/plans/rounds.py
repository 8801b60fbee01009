"""Rounds: after which epochs the trials of a study that promotes are paused.

A trial trains in rounds. At the end of each but the last it is paused with its checkpoint, until
its study's plan promotes it to the next one, or ends it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.facts import BRACKET, PAUSED, ROUND
from orchestrator.errors import UsageError
from orchestrator.search.strategy import whole_number
from orchestrator.spec.model import StudySpec

PROMOTING = ("hyperband", "asha")  # the pruners that have ``promote``

_OPTIONS = ("promote", "min_resource", "max_resource", "reduction_factor")
_FACTOR = 3


@dataclass(frozen=True)
class Rounds(ABC):
    """Resources are epochs.

    Attributes:
        most: epochs of a full trial.
        least: epochs of the shortest first round.
        factor: of each round's trials, one in ``factor`` goes on, and trains ``factor`` times as
            long.
    """

    most: int
    least: int
    factor: int

    @abstractmethod
    def bracket(self, place: int) -> int:
        """The bracket at a place of the sequence in which they begin."""

    @abstractmethod
    def ends(self, bracket: int) -> list[int]:
        """After how many epochs each round of a bracket ends; the last is a full trial."""


class Brackets(Rounds):
    """Those of Hyperband (L. Li et al. 2018), with the sizes and epochs of KerasTuner's oracle.

    Example:
        >>> Brackets(most=8, least=1, factor=3).ends(1)
        [3, 8]
    """

    @property
    def count(self) -> int:
        """How many brackets there are; the highest has the most rounds."""
        brackets, epochs = 0, float(self.most)
        while epochs >= self.least:
            epochs /= self.factor
            brackets += 1
        return brackets

    def bracket(self, place: int) -> int:
        """From the highest to 0, again and again."""
        return self.count - 1 - place % self.count

    def ends(self, bracket: int) -> list[int]:
        return [
            math.ceil(self.most / self._shrunk(bracket, round_)) for round_ in range(bracket + 1)
        ]

    def size(self, bracket: int, round_: int) -> int:
        """How many trials a round of a bracket has."""
        last_of_bracket_0 = math.ceil(1 + math.log(self.most, self.factor))
        return math.ceil(last_of_bracket_0 / (bracket + 1) * self._shrunk(bracket, round_))

    def _shrunk(self, bracket: int, round_: int) -> float:
        return float(self.factor) ** (bracket - round_)


class Rungs(Rounds):
    """Those of successive halving (L. Li et al. 2020): one bracket.

    Example:
        >>> Rungs(most=8, least=1, factor=3).ends(0)
        [1, 3, 8]
    """

    def bracket(self, place: int) -> int:
        return 0

    def ends(self, bracket: int) -> list[int]:
        ends, epochs = [], self.least
        while epochs < self.most:
            ends.append(epochs)
            epochs *= self.factor
        return [*ends, self.most]


def promotes(spec: StudySpec) -> bool:
    """Whether the study's pruner promotes: ``pruner.promote = true``.

    Raises:
        UsageError: ``promote`` is neither true nor false, or no option of this pruner.
    """
    value = spec.pruner.options.get("promote", False)
    if not isinstance(value, bool):
        raise UsageError(f"pruner.promote must be true or false, not {value!r}")
    return value and spec.pruner.name in PROMOTING


def build_rounds(spec: StudySpec, steps: int) -> Rounds | None:
    """The rounds of a study that promotes; None of any other.

    Args:
        spec: the study.
        steps: epochs of a full trial.

    Raises:
        UsageError: an option is unknown or impossible.
    """
    if not promotes(spec):
        return None
    options = spec.pruner.options
    for option in options:
        if option not in _OPTIONS:
            raise UsageError(
                f"pruner.{option} has no meaning with promote = true; known are "
                + ", ".join(_OPTIONS)
            )
    most = options.get("max_resource", steps)
    if most != steps:
        raise UsageError(
            f"pruner.max_resource {most} must be the epochs of a full trial ({steps}) with "
            "promote = true; leave it out"
        )
    least = whole_number("pruner.min_resource", options.get("min_resource", 1), 1)
    factor = whole_number("pruner.reduction_factor", options.get("reduction_factor", _FACTOR), 2)
    if least > steps:
        raise UsageError(f"pruner.min_resource {least} is above the {steps} epochs of a full trial")
    return (Brackets if spec.pruner.name == "hyperband" else Rungs)(steps, least, factor)


def end_of_round(trial: FrozenTrial, rounds: Rounds) -> int | None:
    """The epoch after which a trial is paused; None: it trains to its end."""
    if BRACKET not in trial.system_attrs:
        return None
    *ends, _ = rounds.ends(rounds.bracket(int(trial.system_attrs[BRACKET])))
    round_ = int(trial.system_attrs[ROUND])
    return ends[round_] if round_ < len(ends) else None


def is_paused(trial: FrozenTrial, rounds: Rounds | None) -> bool:
    """Whether a trial waits for its promotion, or did until its plan ended it."""
    if not trial.state.is_finished():
        return PAUSED in trial.system_attrs
    if rounds is None or trial.state != TrialState.PRUNED or trial.last_step is None:
        return False
    return trial.last_step == end_of_round(trial, rounds)


def has_ended_a_round(trial: FrozenTrial) -> bool:
    """Whether a trial that has not ended was paused: its values tell what it may reach."""
    attributes = trial.system_attrs
    if trial.state.is_finished() or ROUND not in attributes:
        return False
    return PAUSED in attributes or int(attributes[ROUND]) > 0
