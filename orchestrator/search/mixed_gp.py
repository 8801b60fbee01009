"""MixedGP: Bayesian optimization of spaces that mix numbers, categories and conditions.

It begins with points of a scrambled Sobol sequence (``initial_design.py``). Then each trial takes
the configuration whose value is expected to improve most on the best (Jones et al., "Efficient
global optimization of expensive black-box functions", 1998), by a model of all trials so far
(``gaussian_process.py``).
docs/search.md has the method, its measurements, and what did not help.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from optuna.study import StudyDirection

from orchestrator.search.blas import one_blas_thread
from orchestrator.search.cost import COSTS, ExpectedSeconds
from orchestrator.search.encoded_space import Array, EncodedSpace, code_within
from orchestrator.search.gaussian_process import (
    GaussianProcess,
    Kernel,
    Measured,
    Warped,
    log_expected_improvement,
    log_probability_below,
)
from orchestrator.search.initial_design import MOST_LISTED, Ask, InitialDesign, check_directions
from orchestrator.search.knowledge import Guide, Prior
from orchestrator.search.observations import Observations
from orchestrator.search.older_trials import OlderTrials, first_tries

if TYPE_CHECKING:
    from optuna.study import Study

_LEAST_TRIALS = 3  # that a model needs
# What counts as an improvement, in standard deviations of the (warped) values: without it, a search
# whose model is sure of an optimum would spend its trials on the optimum's last digits.
_LEAST_GAIN = 0.03
# Running trials count as better than expected: by one standard deviation if this many run, by a
# share of it if fewer do. The less is known when trials begin, the further apart they are sent.
_RUNNING_FOR_A_DEVIATION = 16
# How much a prior counts: its density to the power of this over the number of finished trials.
_PRIOR_POWER = 3.0
# A study that has more finished trials is modelled by its best and its newest ones, so that the
# time for a suggestion, which grows with the cube of their number, stays below half a second.
_MOST_TRIALS, _BEST_TRIALS, _NEWEST_TRIALS = 300, 200, 50

# The search for the best configuration by the model: random ones and the neighbours of the best
# trials, then the neighbours of the most promising, and so on.
_RANDOM_CANDIDATES, _EXPECTED_CANDIDATES = 800, 200
_TRIALS_WITH_NEIGHBOURS = 8
_PROMISING = 4
_ROUNDS, _MORE_ROUNDS_FOR_NUMBERS = 2, 4


class MixedGP(InitialDesign):
    """A sampler for few, expensive trials of any search space; NumPy and SciPy are all it needs.

    Example::

        import optuna
        from orchestrator.samplers import MixedGP

        study = optuna.create_study(sampler=MixedGP(seed=0))
        study.optimize(objective, n_trials=60)

    A suggestion follows from the seed, the trial's number and the study's trials alone, so any
    number of processes with the same seed search one study together. Running trials count as what
    the model expects of them, and as better the more of them run, so that they are sent apart. No
    configuration of a finite space is drawn twice while there are others.

    * Lists of numbers (``suggest_categorical("units", [32, 64, 128])``) are ordered; other choices
      are not.
    * Parameters that only some trials have are modelled with all others.
    * A trial that failed, or whose value is not finite, counts as the worst, unless its
      configuration was tried again.
    * A pruned trial counts by its last intermediate value, but as no better than the middle of the
      complete ones.
    * Where trials have constraints (``trial.set_constraint``), the expected improvement on the best
      feasible value is weighted by the probability that all hold (Gardner et al., "Bayesian
      optimization with inequality constraints", 2014).

    Args:
        seed: of everything that is random. None: another one for each object, so that processes do
            not share the first points.
        n_startup_trials: how many trials, by their numbers, take points of the Sobol sequence.
        prior: values of some parameters near which the best configuration is expected, e.g.
            ``{"learning_rate": 3e-3}``. The first trial tries them. Then every second trial is for
            them: a startup trial is drawn near them, and a later one's expected improvement is
            weighted by how near a configuration is, less with each trial (Hvarfner et al., "piBO:
            Augmenting acquisition functions with user beliefs for Bayesian optimization", 2022).
        warm_start: studies with parameters of the same names, whose trials, as they are now, tell
            about this one as far as its own trials agree. The best of each is tried first, and
            every second trial does without.
        cost: ``"seconds"`` looks for the largest expected improvement per second, by how long the
            trials so far have taken; None: per trial.

    Raises:
        ValueError: one of them is impossible.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        prior: Mapping[str, Any] | None = None,
        warm_start: Sequence[Study | OlderTrials] = (),
        cost: str | None = None,
    ) -> None:
        super().__init__(seed=seed)
        if n_startup_trials < 1:
            raise ValueError(f"n_startup_trials must be 1 or more, not {n_startup_trials}")
        if cost is not None and cost not in COSTS:
            raise ValueError(f"cost must be {' or '.join(COSTS)}, not {cost!r}")
        self._n_startup_trials = n_startup_trials
        self._cost = cost
        self._prior = dict(prior or {})
        self._older = [_older_trials(each) for each in warm_start]
        self._guesses = first_tries(self._prior, self._older)

    def _propose(self, ask: Ask) -> Array | None:
        if self._is_startup(ask.number) or ask.observed.usable < _LEAST_TRIALS:
            return super()._propose(ask)
        seconds = None if self._cost is None else partial(ExpectedSeconds, ask.space, ask.trials)
        with one_blas_thread():
            prior = self._prior_for(ask.space, ask.number)
            known = _Known(prior, self._guides_for(ask.space, ask.number))
            return _best_by_model(ask.space, ask.observed, known, ask.rng, seconds)

    # What is known before the first trial may be wrong, so every second trial does without.

    def _prior_for(self, space: EncodedSpace, number: int) -> Prior:
        return Prior(space, self._prior if number % 2 == 0 else {})

    def _guides_for(self, space: EncodedSpace, number: int) -> list[Guide]:
        older = self._older if number % 2 == 0 else []
        return [guide for each in older if (guide := Guide(space, each))]

    def _is_startup(self, number: int) -> bool:
        """Whether a trial is not for the model.

        With older trials, every second startup trial is: it knows enough to begin.
        """
        if self._older and number % 2 == 0 and number >= len(self._guesses):
            return False
        return number < self._n_startup_trials

    def _place(self, space: EncodedSpace, point: Array, number: int) -> Array:
        """What is expected to be good comes first; then more where more is expected."""
        prior = self._prior_for(space, number)  # which refuses one that is outside of the domain
        if number < len(self._guesses):
            guess = self._guesses[number]
            row = super()._place(space, point, number)
            for column, name in enumerate(space.names):
                if name in guess:
                    with contextlib.suppress(ValueError):  # of an older study, with other domains
                        row[column] = code_within(space.parameters[column], guess[name])
            return np.asarray(space.settle(row[None])[0])
        return np.asarray(prior.spread(point[None])[0])


class _Known(NamedTuple):
    """What is known before the first trial."""

    prior: Prior
    guides: list[Guide]


def _older_trials(source: Study | OlderTrials) -> OlderTrials:
    if isinstance(source, OlderTrials):
        return source
    check_directions(source)
    trials = source.get_trials(deepcopy=False)
    return OlderTrials.of(trials, source.direction == StudyDirection.MAXIMIZE)


def _best_by_model(
    space: EncodedSpace,
    observed: Observations,
    known: _Known,
    rng: np.random.Generator,
    fit_cost: Callable[[], Callable[[Array], Array]] | None,
) -> Array | None:
    """The configuration that the model expects most of; None if there is none that is new."""
    try:
        gain = _acquisition(space, observed, known)
        cost = None if fit_cost is None else fit_cost()
    except np.linalg.LinAlgError:
        return None

    def score(rows: Array) -> Array:
        return gain(rows) if cost is None else gain(rows) - cost(rows)

    every = space.every(MOST_LISTED)
    if every is not None:
        new = [row for row in every if row.tobytes() not in observed.seen]
        return new[int(np.argmax(score(np.array(new))))] if new else None
    return _climb(space, observed, score, rng, known.prior)


def _climb(
    space: EncodedSpace,
    observed: Observations,
    score: Callable[[Array], Array],
    rng: np.random.Generator,
    prior: Prior,
) -> Array | None:
    """The best by a score of random configurations and, step by step, of the best ones' neighbours.

    None: no configuration that was looked at is new.
    """
    starts = observed.rows[observed.best(_TRIALS_WITH_NEIGHBOURS)]
    candidates = np.concatenate(
        [space.random(_RANDOM_CANDIDATES, rng), *(space.neighbours(row, rng) for row in starts)]
    )
    if prior:
        expected = prior.spread(rng.random((_EXPECTED_CANDIDATES, len(space.names))))
        candidates = np.concatenate([candidates, expected])
    rows: list[Array] = []
    scores: list[float] = []
    known, climbed = set(observed.seen), set[int]()
    rounds = _ROUNDS + (0 if space.is_finite else _MORE_ROUNDS_FOR_NUMBERS)
    for round_ in range(rounds + 1):
        new = []
        for row in candidates:
            key = row.tobytes()
            if key not in known:
                known.add(key)
                new.append(row)
        if new:
            rows += new
            scores += score(np.array(new)).tolist()
        best = np.argsort(-np.array(scores), kind="stable")[:_PROMISING]
        promising = [int(place) for place in best if place not in climbed]
        if not promising or round_ == rounds:
            break
        climbed.update(promising)
        candidates = np.concatenate([space.neighbours(rows[place], rng) for place in promising])
    return rows[int(np.argmax(scores))] if rows else None


def _acquisition(
    space: EncodedSpace, observed: Observations, known: _Known
) -> Callable[[Array], Array]:
    """How much is expected of configurations, on a logarithmic scale."""
    reference = observed.losses[observed.is_feasible]
    part = observed
    if len(observed.rows) > _MOST_TRIALS:
        newest = np.arange(len(observed.rows))[-_NEWEST_TRIALS:]
        part = observed.part(np.union1d(observed.best(_BEST_TRIALS), newest))
    feasibility = None if part.violations is None else _feasibility(Kernel(space), part)
    if not len(reference):  # nothing holds the constraints yet: look for what does
        assert feasibility is not None
        return feasibility
    kernel, target = Kernel(space, known.guides), Warped(part.losses, reference)
    theta = kernel.fit(kernel.features(part.rows), target, [kernel.mean])
    losses = target(theta[kernel.offset])[0]
    model = GaussianProcess(kernel, theta, part.rows, losses)
    hope = min(len(part.running) / _RUNNING_FOR_A_DEVIATION, 1.0)
    model, believed = model.believe(part.running, hope)
    best = min(losses[part.is_feasible].min(), believed.min(initial=np.inf)) - _LEAST_GAIN
    power = _PRIOR_POWER / len(observed.rows)

    def score(rows: Array) -> Array:
        gain = log_expected_improvement(*model.predict(rows), best)
        gain += power * known.prior.log_density(rows)
        return gain if feasibility is None else gain + feasibility(rows)

    return score


def _feasibility(kernel: Kernel, observed: Observations) -> Callable[[Array], Array]:
    """The logarithm of the probability that configurations hold all constraints."""
    assert observed.violations is not None
    known = ~np.isnan(observed.violations)
    rows, violations = observed.rows[known], observed.violations[known]
    spread = float(violations.std()) or 1.0
    middle = float(violations.mean())
    values = (violations - middle) / spread
    theta = kernel.fit(kernel.features(rows), Measured(values), [kernel.mean])
    model, _ = GaussianProcess(kernel, theta, rows, values).believe(observed.running)
    return lambda each: log_probability_below(*model.predict(each), -middle / spread)
