"""Auto: which sampler draws the next trial of a study that names none.

The choice follows from the study's trials and the trial's number: whichever worker asks, the same
trials give the same answer. docs/search.md has the rules.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.facts import DRAW_SECONDS, ROUND, SAMPLER, SECONDS
from orchestrator.base.printed import rounded
from orchestrator.search.plans.rounds import has_ended_a_round
from orchestrator.spec.model import StudySpec

AUTO = "auto"
# The names that it chooses among.
MODEL, CHEAP, FIRST = "mixed-gp", "tpe", "sobol"

# A model of fewer trials says little; and until then it is known how long a trial takes.
_FIRST_TRIALS, _LEAST_FINISHED = 10, 3
# From here on the model would be of a quarter of the trials at most.
_MOST_FINISHED = 1000
_LARGEST_SHARE = 0.1  # of a trial's time, for its suggestion
_LONGEST_PERIOD = 10  # a model that may suggest fewer trials than one in ten is left out
_ASSUMED_SECONDS = 0.02  # of a suggestion, before there was one
# The newest are looked at: a study's trials and the model's suggestions change their length.
_NEWEST_TRIALS, _NEWEST_DRAWS = 20, 5

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Choice:
    """The sampler of one trial.

    Attributes:
        sampler: its name.
        reason: why it is not the model, or not for every trial, for people; None: it is.
    """

    sampler: str
    reason: str | None = None


def choose(spec: StudySpec, number: int, trials: Sequence[FrozenTrial]) -> Choice:
    """The sampler of a trial in a study whose sampler is ``auto``.

    Args:
        spec: the study.
        number: the trial's.
        trials: all of the study, by number.
    """
    if len(spec.study.metrics) > 1:
        return Choice(CHEAP, "there are several metrics")
    done = [each for each in trials if each.state in _DONE or has_ended_a_round(each)]
    if number < _FIRST_TRIALS or len(done) < _LEAST_FINISHED:
        is_informed = spec.priors or spec.study.warm_start
        return Choice(MODEL if is_informed else FIRST)
    if len(done) > _MOST_FINISHED:
        return Choice(CHEAP, f"more than {_MOST_FINISHED} trials are finished")
    return _as_often_as_it_pays(number, _trial_seconds(done), _draw_seconds(trials))


@dataclass(frozen=True)
class Used:
    """Which samplers drew the trials of a study whose sampler is ``auto``.

    Attributes:
        counts: how many trials each has drawn, the most first.
        reason: why the model does not draw all; None: it does, after the first ones.
    """

    counts: dict[str, int]
    reason: str | None

    def __str__(self) -> str:
        """``40 by mixed-gp, 10 spread evenly``, with the reason."""
        counts = ", ".join(f"{count} {_drawn(name)}" for name, count in self.counts.items())
        return counts + (f"; {self.reason}" if self.reason else "")


def samplers_used(spec: StudySpec, trials: Sequence[FrozenTrial]) -> Used | None:
    """What drew the trials so far; None where the study names its sampler, or nothing is drawn."""
    names = (each.user_attrs.get(SAMPLER) for each in trials)
    counts = Counter(name for name in names if isinstance(name, str))
    if spec.sampler.name != AUTO or not counts:
        return None
    reason = choose(spec, len(trials), trials).reason
    if reason and spec.sampler.cost:
        reason += f"; {CHEAP} does not weigh the {spec.sampler.cost} of a trial"
    return Used(dict(counts.most_common()), reason)


def _drawn(name: str) -> str:
    return "spread evenly" if name == FIRST else f"by {name}"


def _as_often_as_it_pays(number: int, trial_seconds: float, draw_seconds: float) -> Choice:
    """The model for every n-th trial, so that its suggestions take a tenth of the time at most."""
    if draw_seconds <= _LARGEST_SHARE * trial_seconds:
        return Choice(MODEL)
    period = math.inf
    if trial_seconds > 0:
        period = math.ceil(draw_seconds / (_LARGEST_SHARE * trial_seconds))
    cost = (
        f"a suggestion of {MODEL} takes {rounded(draw_seconds, 2)} s and a trial "
        f"{rounded(trial_seconds, 2)} s"
    )
    if period > _LONGEST_PERIOD:
        return Choice(CHEAP, cost)
    sampler = CHEAP if number % period else MODEL
    return Choice(sampler, f"{cost}, so {MODEL} draws one trial in {period:.0f}")


def _trial_seconds(done: Sequence[FrozenTrial]) -> float:
    """How long a trial takes, by the server's clock."""
    known = (_seconds(each) for each in done[-_NEWEST_TRIALS:])
    newest = [each for each in known if each is not None]
    return median(newest) if newest else 0.0


def _seconds(trial: FrozenTrial) -> float | None:
    if ROUND in trial.system_attrs:  # without the time for which it was paused
        return trial.user_attrs.get(SECONDS)
    return None if trial.duration is None else trial.duration.total_seconds()


def _draw_seconds(trials: Sequence[FrozenTrial]) -> float:
    """How long the model's suggestions took."""
    newest = list(islice(_draws(trials), _NEWEST_DRAWS))
    return median(newest) if newest else _ASSUMED_SECONDS


def _draws(trials: Sequence[FrozenTrial]) -> Iterator[float]:
    for each in reversed(trials):
        seconds = each.user_attrs.get(DRAW_SECONDS)
        if isinstance(seconds, int | float):
            yield float(seconds)
