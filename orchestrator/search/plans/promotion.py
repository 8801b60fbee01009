"""Hyperband with promotion: brackets of rounds, whose best go on from where they stopped.

L. Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18
(2018), with the sizes and epochs of KerasTuner's ``HyperbandOracle``. A trial that has ended its
round is paused with its checkpoint; when its whole bracket has, the best are promoted to the next
round and the others are pruned. Workers that would wait start the next bracket.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.facts import BRACKET, PAUSED, ROUND
from orchestrator.errors import UsageError
from orchestrator.search.plans.plan import Configuration, Plan, Step
from orchestrator.search.strategy import whole_number
from orchestrator.spec.eligibility import known_infeasible, rank
from orchestrator.spec.model import StudySpec

_OPTIONS = ("promote", "min_resource", "max_resource", "reduction_factor")


def promotes(spec: StudySpec) -> bool:
    """Whether the study's Hyperband promotes: ``pruner.promote = true``.

    Raises:
        UsageError: ``promote`` is neither true nor false, or no option of this pruner.
    """
    value = spec.pruner.options.get("promote", False)
    if not isinstance(value, bool):
        raise UsageError(f"pruner.promote must be true or false, not {value!r}")
    return value and spec.pruner.name == "hyperband"


@dataclass(frozen=True)
class Brackets:
    """The arithmetic of Hyperband. Resources are epochs.

    Attributes:
        most: epochs of a full trial.
        least: epochs of the shortest first round.
        factor: of each round's trials, one in ``factor`` goes on, and trains ``factor`` times as
            long.
    """

    most: int
    least: int
    factor: int

    @property
    def count(self) -> int:
        """How many brackets there are; the highest has the most rounds."""
        brackets, epochs = 0, float(self.most)
        while epochs >= self.least:
            epochs /= self.factor
            brackets += 1
        return brackets

    def size(self, bracket: int, round_: int) -> int:
        """How many trials a round of a bracket has."""
        last_of_bracket_0 = math.ceil(1 + math.log(self.most, self.factor))
        return math.ceil(last_of_bracket_0 / (bracket + 1) * self._shrunk(bracket, round_))

    def epochs(self, bracket: int, round_: int) -> int:
        """After how many epochs a round of a bracket ends."""
        return math.ceil(self.most / self._shrunk(bracket, round_))

    def _shrunk(self, bracket: int, round_: int) -> float:
        return float(self.factor) ** (bracket - round_)


class PromotionPlan(Plan):
    """Queues the brackets one after the other, and promotes within each.

    Args:
        brackets: their sizes and epochs.
        maximize: the direction.
        constraints: user attributes that are constraints, beside those that trials hold.
    """

    def __init__(self, brackets: Brackets, maximize: bool, constraints: Sequence[str] = ()) -> None:
        self._brackets = brackets
        self._maximize = maximize
        self._constraints = constraints

    def size(self) -> None:
        return None

    def step(self, trials: Sequence[FrozenTrial], budget: int) -> Step:
        groups: dict[int, list[FrozenTrial]] = {}
        for trial in trials:
            if BRACKET in trial.system_attrs:
                groups.setdefault(int(trial.system_attrs[BRACKET]), []).append(trial)
        for members in groups.values():
            active = [trial for trial in members if not trial.state.is_finished()]
            if active and all(PAUSED in trial.system_attrs for trial in active):
                return self._end_round(active)
        # A bracket's place in the sequence of all brackets is its name.
        place = max(groups, default=-1) + 1
        left = budget - sum(trial.state != TrialState.FAIL for trial in trials)
        count = min(left, self._brackets.size(bracket_at(place, self._brackets.count), 0))
        # Its parameters are drawn by the study's sampler when it is taken.
        fresh: tuple[Configuration, dict[str, Any]] = ({}, {BRACKET: place, ROUND: 0})
        return Step(queue=[fresh] * max(0, count))

    def _end_round(self, active: list[FrozenTrial]) -> Step:
        place, round_ = int(active[0].system_attrs[BRACKET]), int(active[0].system_attrs[ROUND])
        bracket = bracket_at(place, self._brackets.count)
        epochs = self._brackets.epochs(bracket, round_)

        def place_of(trial: FrozenTrial) -> tuple[bool, float, int]:
            # What cannot win comes last, whatever its value.
            value = rank(trial.intermediate_values.get(epochs), self._maximize)
            return known_infeasible(trial, self._constraints), value, trial.number

        ranked = sorted(active, key=place_of)
        keep = self._brackets.size(bracket, round_ + 1)
        return Step(
            promote=[trial._trial_id for trial in ranked[:keep]],
            prune=[trial._trial_id for trial in ranked[keep:]],
        )


def bracket_at(place: int, count: int) -> int:
    """The bracket at a place of the sequence: from the highest to 0, again and again."""
    return count - 1 - place % count


def pause_after(trial: FrozenTrial, brackets: Brackets) -> int | None:
    """The epoch after which a trial is paused; None: it trains to its end."""
    if BRACKET not in trial.system_attrs:
        return None
    bracket = bracket_at(int(trial.system_attrs[BRACKET]), brackets.count)
    round_ = int(trial.system_attrs[ROUND])
    return None if round_ >= bracket else brackets.epochs(bracket, round_)


def build_brackets(spec: StudySpec, steps: int) -> Brackets | None:
    """The brackets of a study that promotes; None of any other.

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
    factor = whole_number("pruner.reduction_factor", options.get("reduction_factor", 3), 2)
    if least > steps:
        raise UsageError(f"pruner.min_resource {least} is above the {steps} epochs of a full trial")
    return Brackets(steps, least, factor)
