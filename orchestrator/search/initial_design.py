"""InitialDesign: the first configurations of a search, spread evenly over its space.

They are points of a scrambled Sobol sequence (``sobol.py``). They need no model, and SciPy, which
may take seconds to import, is not imported. ``MixedGP`` begins with them; so does ``auto``, while
it does not know whether a trial is long enough for a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from orchestrator.base.optuna_internals import all_brackets
from orchestrator.search.encoded_space import Array, EncodedSpace, parameter
from orchestrator.search.observations import Observations, observe
from orchestrator.search.sobol import sobol_point

MOST_LISTED = 2000  # configurations of a space that are all looked at
_MOST_REDRAWS = 1000
_QUEUED = "fixed_params"  # the attribute in which study.enqueue_trial() leaves its values


class Ask(NamedTuple):
    """What a trial's configuration is chosen by.

    Attributes:
        number: the trial's.
        point: its point in the unit cube, a coordinate for each parameter of the space.
        space: the parameters; those that were queued with the trial are fixed.
        trials: the others of the study.
        observed: what they tell.
        rng: follows from the seed and the number.
    """

    number: int
    point: Array
    space: EncodedSpace
    trials: Sequence[FrozenTrial]
    observed: Observations
    rng: np.random.Generator


class InitialDesign(BaseSampler):
    """Each trial takes the point of its number in a Sobol sequence.

    The point follows from the seed and the number alone, so all workers share one sequence without
    talking. A configuration that another trial has had is replaced by a random one.

    Args:
        seed: of the sequence. None: another one for each object, so that processes do not share the
            first points.

    Raises:
        ValueError: the seed is negative.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        if seed is not None and seed < 0:
            raise ValueError(f"seed must be 0 or more, not {seed}")
        self._seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that some trial of the study has had, in its newest domain."""
        check_directions(study)
        known = _known_space(_others(study, trial))
        return {name: each for name, each in known.items() if not each.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration, but for what was queued with the trial."""
        check_directions(study)
        queued = trial.system_attrs.get(_QUEUED, {})
        if set(search_space) <= set(queued):
            return {}
        ask = self._ask(trial.number, _encoded(search_space, queued), _others(study, trial), study)
        row = _unless_seen(self._propose(ask), ask.space, ask.observed.seen, ask.rng)
        return ask.space.decode(row)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value for a parameter that no trial has had: its coordinate of the trial's point."""
        check_directions(study)
        if param_distribution.single():
            return parameter(param_distribution).decode(0.0)
        space = EncodedSpace({param_name: param_distribution})
        point = sobol_point(self._seed, trial.number, [len(trial.params)])
        return space.decode(self._place(space, point, trial.number))[param_name]

    def _ask(
        self, number: int, space: EncodedSpace, trials: Sequence[FrozenTrial], study: Study
    ) -> Ask:
        # The coordinates are in the order in which trials have had the parameters.
        names = list(dict.fromkeys([*_known_space(trials), *space.names]))
        return Ask(
            number,
            sobol_point(self._seed, number, map(names.index, space.names)),
            space,
            trials,
            observe(space, trials, study.direction == StudyDirection.MAXIMIZE),
            np.random.default_rng([self._seed, number]),
        )

    def _propose(self, ask: Ask) -> Array | None:
        """The row of a configuration; None: any that is new."""
        return self._place(ask.space, ask.point, ask.number)

    def _place(self, space: EncodedSpace, point: Array, number: int) -> Array:
        """The row of a trial's configuration at a point of the unit cube."""
        return np.asarray(space.spread(point[None])[0])


def check_directions(study: Study) -> None:
    """Refuse a study of several directions: it has no single best value."""
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


def _unless_seen(
    row: Array | None, space: EncodedSpace, seen: frozenset[bytes], rng: np.random.Generator
) -> Array:
    """The row, or a random one where a trial has had it; once all are seen, any."""
    if row is not None and row.tobytes() not in seen:
        return row
    every = space.every(MOST_LISTED)
    if every is not None:
        new = [each for each in every if each.tobytes() not in seen]
        return np.asarray(rng.choice(new or every))
    for _ in range(_MOST_REDRAWS):
        row = space.random(1, rng)[0]
        if row.tobytes() not in seen:
            break
    assert row is not None
    return row
