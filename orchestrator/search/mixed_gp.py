"""MixedGP: Bayesian optimization of spaces that mix numbers, categories and conditions.

It begins with points of a scrambled Sobol sequence. Then each trial takes the configuration whose
value is expected to improve most on the best (Jones et al., "Efficient global optimization of
expensive black-box functions", 1998), by a model of all trials so far (``gaussian_process.py``).
docs/search.md has the method, its measurements, and what did not help.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from orchestrator.base.optuna_internals import all_brackets
from orchestrator.search.blas import one_blas_thread
from orchestrator.search.cost import COSTS, ExpectedSeconds
from orchestrator.search.encoded_space import Array, EncodedSpace, code_within, parameter
from orchestrator.search.gaussian_process import (
    GaussianProcess,
    Kernel,
    Measured,
    Warped,
    log_expected_improvement,
    log_probability_below,
)
from orchestrator.search.knowledge import Guide, Prior
from orchestrator.search.observations import Observations, observe
from orchestrator.search.older_trials import OlderTrials, first_tries

if TYPE_CHECKING:
    from optuna.study import Study

_LEAST_TRIALS = 3  # that a model needs
# What counts as an improvement, in standard deviations of the (warped) values: without it, a search
# whose model is sure of an optimum would spend its trials on the optimum's last digits.
_LEAST_GAIN = 0.03
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
_MOST_LISTED = 2000  # configurations of a space that are all looked at
_MOST_REDRAWS = 1000

_SOBOL_COLUMNS = 64  # a fixed number: a point's columns would differ in a sequence of another one
_QUEUED = "fixed_params"  # the attribute in which study.enqueue_trial() leaves its values


class MixedGP(BaseSampler):
    """A sampler for few, expensive trials of any search space; NumPy and SciPy are all it needs.

    Example::

        import optuna
        from orchestrator.samplers import MixedGP

        study = optuna.create_study(sampler=MixedGP(seed=0))
        study.optimize(objective, n_trials=60)

    A suggestion follows from the seed, the trial's number and the study's trials alone, so any
    number of processes with the same seed search one study together. Running trials count as what
    the model expects of them, and no configuration of a finite space is drawn twice while there are
    others.

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
        if seed is not None and seed < 0:
            raise ValueError(f"seed must be 0 or more, not {seed}")
        if n_startup_trials < 1:
            raise ValueError(f"n_startup_trials must be 1 or more, not {n_startup_trials}")
        if cost is not None and cost not in COSTS:
            raise ValueError(f"cost must be {' or '.join(COSTS)}, not {cost!r}")
        self._seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self._n_startup_trials = n_startup_trials
        self._cost = cost
        self._prior = dict(prior or {})
        self._older = [_older_trials(each) for each in warm_start]
        self._guesses = first_tries(self._prior, self._older)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that some trial of the study has had, in its newest domain."""
        _check_directions(study)
        known = _known_space(_others(study, trial))
        return {name: each for name, each in known.items() if not each.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration, but for what was queued with the trial."""
        _check_directions(study)
        queued = trial.system_attrs.get(_QUEUED, {})
        if set(search_space) <= set(queued):
            return {}
        trials = _others(study, trial)
        space = _encoded(search_space, queued)
        observed = observe(space, trials, study.direction == StudyDirection.MAXIMIZE)
        rng = np.random.default_rng([self._seed, trial.number])
        prior = self._prior_for(space, trial.number)
        if self._is_startup(trial.number) or observed.usable < _LEAST_TRIALS:
            row: Array | None = self._startup_row(space, prior, trials, trial.number)
        else:
            seconds = None if self._cost is None else partial(ExpectedSeconds, space, trials)
            with one_blas_thread():
                known = _Known(prior, self._guides_for(space, trial.number))
                row = _best_by_model(space, observed, known, rng, seconds)
        return space.decode(_unless_seen(row, space, observed.seen, rng))

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

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value for a parameter that no trial has had: its column of the trial's Sobol point."""
        _check_directions(study)
        column = len(trial.params)
        unit = self._sobol_point(trial.number, column + 1)[[column]]
        if param_distribution.single():
            return parameter(param_distribution).decode(0.0)
        space = EncodedSpace({param_name: param_distribution})
        row = self._drawn(space, self._prior_for(space, trial.number), unit, trial.number)
        return space.decode(row)[param_name]

    def _startup_row(
        self, space: EncodedSpace, prior: Prior, trials: Sequence[FrozenTrial], number: int
    ) -> Array:
        """The trial's Sobol point, its columns in the order in which trials have had them."""
        names = list(dict.fromkeys([*_known_space(trials), *space.names]))
        unit = self._sobol_point(number, len(names))
        places = [names.index(name) for name in space.names]
        return self._drawn(space, prior, unit[places], number)

    def _drawn(self, space: EncodedSpace, prior: Prior, unit: Array, number: int) -> Array:
        """The configuration of a startup trial for a point of the unit cube.

        What is expected to be good comes first.
        """
        if number < len(self._guesses):
            guess = self._guesses[number]
            row = space.spread(unit[None])[0]
            for column, name in enumerate(space.names):
                if name in guess:
                    with contextlib.suppress(ValueError):  # of an older study, with other domains
                        row[column] = code_within(space.parameters[column], guess[name])
            return np.asarray(space.settle(row[None])[0])
        return np.asarray(prior.spread(unit[None])[0])

    def _sobol_point(self, number: int, columns: int) -> Array:
        """A point of the sequence that all trials of the study share."""
        width = _SOBOL_COLUMNS * math.ceil(columns / _SOBOL_COLUMNS)
        sequence = qmc.Sobol(width, scramble=True, seed=np.random.default_rng(self._seed))
        if number:
            sequence.fast_forward(number)
        return np.asarray(sequence.random(1)[0])


class _Known(NamedTuple):
    """What is known before the first trial."""

    prior: Prior
    guides: list[Guide]


def _older_trials(source: Study | OlderTrials) -> OlderTrials:
    if isinstance(source, OlderTrials):
        return source
    _check_directions(source)
    trials = source.get_trials(deepcopy=False)
    return OlderTrials.of(trials, source.direction == StudyDirection.MAXIMIZE)


def _check_directions(study: Study) -> None:
    if len(study.directions) > 1:
        raise ValueError(
            "MixedGP looks for the best of one value, and this study has several directions; "
            "use optuna.samplers.TPESampler or NSGAIISampler"
        )


def _others(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """All trials of the study that have begun, but for this one; Hyperband's of all brackets."""
    trials = all_brackets(study).get_trials(deepcopy=False)
    return [each for each in trials if each.number != trial.number and each.params]


def _known_space(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Every parameter that a trial has had, in the order of the first trials that had it."""
    known: dict[str, BaseDistribution] = {}
    for each in trials:
        known.update(each.distributions)
    return known


def _encoded(space: dict[str, BaseDistribution], queued: dict[str, Any]) -> EncodedSpace:
    """The space, of which the queued values are fixed where they lie in it."""
    fixed = {name: value for name, value in queued.items() if name in space}
    try:
        return EncodedSpace(space, fixed)
    except (ValueError, TypeError):  # the objective's suggestion says what is wrong with it
        return EncodedSpace(space)


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

    every = space.every(_MOST_LISTED)
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
    believed = model.predict(part.running)[0]
    best = min(losses[part.is_feasible].min(), believed.min(initial=np.inf)) - _LEAST_GAIN
    model = model.believe(part.running)
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
    model = GaussianProcess(kernel, theta, rows, values).believe(observed.running)
    return lambda each: log_probability_below(*model.predict(each), -middle / spread)


def _unless_seen(
    row: Array | None, space: EncodedSpace, seen: frozenset[bytes], rng: np.random.Generator
) -> Array:
    """The row, or a random one where a trial has had it; once all are seen, any."""
    if row is not None and row.tobytes() not in seen:
        return row
    every = space.every(_MOST_LISTED)
    if every is not None:
        new = [each for each in every if each.tobytes() not in seen]
        return np.asarray(rng.choice(new or every))
    for _ in range(_MOST_REDRAWS):
        row = space.random(1, rng)[0]
        if row.tobytes() not in seen:
            break
    assert row is not None
    return row
