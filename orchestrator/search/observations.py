"""Observations: what a study's trials tell a model, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.encoded_space import Array, EncodedSpace, Mask, Places
from orchestrator.search.extrapolation import FAR, curve_of, expected_finals
from orchestrator.search.plans.rounds import has_ended_a_round

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_MOST_VIOLATED = 3.0  # times a constraint's median: further off is as bad


@dataclass(frozen=True)
class Observations:
    """The trials of a study, in the order of their numbers.

    Attributes:
        rows: the configurations of the trials that are finished, or have ended a round.
        losses: theirs, the lower the better; the highest for a trial that has none.
        violations: how far each is from holding its constraints, at most 0 where all hold and NaN
            where it is not known. None: no trial has constraints.
        running: the configurations of the other running trials.
        usable: how many trials have a loss of their own.
        seen: every configuration.
    """

    rows: Array
    losses: Array
    violations: Array | None
    running: Array
    usable: int
    seen: frozenset[bytes]

    @property
    def is_feasible(self) -> Mask:
        """Of each finished trial, whether it holds its constraints."""
        if self.violations is None:
            return np.ones(len(self.losses), dtype=bool)
        return np.asarray(self.violations <= 0)  # not where it is NaN

    def best(self, count: int) -> Places:
        """The places of the best trials, those that hold their constraints first."""
        order = np.lexsort((self.losses, ~self.is_feasible))
        return np.asarray(order[:count])

    def part(self, places: Places) -> Observations:
        """Those of some finished trials, with all running ones."""
        violations = None if self.violations is None else self.violations[places]
        return replace(
            self, rows=self.rows[places], losses=self.losses[places], violations=violations
        )


def observe(space: EncodedSpace, trials: Sequence[FrozenTrial], maximize: bool) -> Observations:
    """Read a study's trials, and teach the space which of its parameters depend on others.

    * A value that is not finite, and a trial that failed, count as the worst. A failed trial whose
      configuration has another trial is left out: it was tried again.
    * A pruned trial has the value that it would have reached (see ``extrapolation.py``), but none
      better than the middle of the complete ones: a pruner has judged it. A trial that is paused,
      or was promoted, has what it is expected to reach.
    """
    encoded = [(each, row) for each in trials if (row := _row(space, each)) is not None]
    done = [(each, row) for each, row in encoded if each.state in _DONE or has_ended_a_round(each)]
    running = [
        row
        for each, row in encoded
        if each.state == TrialState.RUNNING and not has_ended_a_round(each)
    ]
    space.learn_conditions(_stack(space, [row for _, row in done]))
    tried = {row.tobytes() for _, row in done} | {row.tobytes() for row in running}
    done += [
        (each, row)
        for each, row in encoded
        if each.state == TrialState.FAIL and row.tobytes() not in tried and space.is_whole(row)
    ]
    done.sort(key=lambda pair: pair[0].number)
    losses = losses_of([each for each, _ in done], maximize)
    is_usable = np.isfinite(losses)
    return Observations(
        rows=_stack(space, [row for _, row in done]),
        losses=np.where(is_usable, losses, losses[is_usable].max(initial=-FAR)),
        violations=_violations([each for each, _ in done]),
        running=_stack(space, running),
        usable=int(is_usable.sum()),
        seen=frozenset(row.tobytes() for _, row in encoded),
    )


def _row(space: EncodedSpace, trial: FrozenTrial) -> Array | None:
    """A trial's row; None where it has no parameter, or one whose domain has changed since."""
    try:
        row = space.encode(trial.params)
    except (ValueError, TypeError):
        return None
    return None if np.isnan(row).all() else row


def _stack(space: EncodedSpace, rows: Sequence[Array]) -> Array:
    return np.array(rows, dtype=float).reshape(len(rows), len(space.names))


def losses_of(trials: Sequence[FrozenTrial], maximize: bool) -> Array:
    """The loss of each trial, the lower the better; NaN where it has none."""
    losses = np.full(len(trials), np.nan)
    curves = [(place, curve_of(each, maximize)) for place, each in enumerate(trials)]
    known = [(place, each) for place, each in curves if each is not None]
    losses[[place for place, _ in known]] = expected_finals([each for _, each in known])
    is_pruned = np.array([each.state == TrialState.PRUNED for each in trials], dtype=bool)
    is_complete = np.array([each.state == TrialState.COMPLETE for each in trials], dtype=bool)
    complete = losses[is_complete & np.isfinite(losses)]
    if len(complete):
        losses[is_pruned] = np.maximum(losses[is_pruned], np.median(complete))
    return losses


def _violations(trials: Sequence[FrozenTrial]) -> Array | None:
    """The largest violation of each trial, each constraint on a scale of its own."""
    found = [each.constraints for each in trials]
    names = sorted({name for each in found for name in each})
    if not names:
        return None
    table = np.array([[each.get(name, np.nan) for name in names] for each in found])
    size = np.abs(np.where(np.isfinite(table), table, np.nan))
    known = [column[~np.isnan(column)] for column in size.T]
    unit = np.array([float(np.median(each)) if len(each) else 1.0 for each in known])
    # Far values are cut off, as those of losses are; a missing one leaves the whole unknown.
    scaled = np.clip(table / np.where(unit > 0, unit, 1.0), -_MOST_VIOLATED, _MOST_VIOLATED)
    return np.asarray(scaled.max(axis=1))
