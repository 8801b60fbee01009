"""Optuna's private names: every one that orch uses, under a name of ours.

Optuna may rename them in any release. Each has a test of its own in
``tests/base/test_optuna_internals.py``, so that the test that fails says what to change here.
``FrozenTrial._trial_id`` alone is used everywhere: it is the key of every row of a trial.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.pruners._successive_halving import _completed_rung_key, _get_current_rung
from optuna.storages import BaseStorage
from optuna.storages._base import DEFAULT_STUDY_NAME_PREFIX
from optuna.storages._cached_storage import _CachedStorage as CachedStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.study._multi_objective import (
    _get_pareto_front_trials_by_trials as pareto_front,
)
from optuna.trial import FrozenTrial

if TYPE_CHECKING:  # a package that imports boto3 where it is installed
    from optuna.artifacts._protocol import ArtifactStore

__all__ = [
    "DEFAULT_STUDY_NAME_PREFIX",
    "IN_MEMORY_LOGGER",
    "RUNG",
    "ArtifactStore",
    "CachedStorage",
    "FrozenStudy",
    "HalvingRule",
    "HookedStudy",
    "HookedTrial",
    "all_brackets",
    "bracket_of",
    "bracket_pruners",
    "contains",
    "copy_trial",
    "pareto_front",
    "rule_of",
    "rung_key",
    "rung_of",
    "storage_of",
    "study_id_of",
]

# How Optuna names the system attributes in which it notes a trial's rungs: this and the rung.
RUNG = _completed_rung_key(0).removesuffix("0")
# The logger to which the storage in memory writes a line for each study that it makes.
IN_MEMORY_LOGGER = "optuna.storages._in_memory"


class HookedStudy(optuna.Study):
    """An :class:`optuna.Study` whose storage a subclass may use, and whose trials it may forget."""

    @property
    def storage(self) -> BaseStorage:
        """Where the study is."""
        return self._storage

    @property
    def study_id(self) -> int:
        """Its row."""
        return self._study_id

    def forget_trials(self) -> None:
        """Read the trials anew at the next question: Optuna keeps them for one trial's time."""
        self._thread_local.cached_all_trials = None


class HookedTrial(optuna.Trial):
    """An :class:`optuna.Trial` whose insides a subclass may use.

    The hooks are :meth:`suggest`, :meth:`lacks`, :meth:`check_domain` and :meth:`latest`; each is
    Optuna's own unless it is overridden.
    """

    @property
    def frozen(self) -> FrozenTrial:
        """The trial as this process knows it; what is suggested and reported is written into it."""
        return self._cached_frozen_trial

    @frozen.setter
    def frozen(self, trial: FrozenTrial) -> None:
        self._cached_frozen_trial = trial

    @property
    def fixed(self) -> dict[str, Any]:
        """The values that were enqueued, by parameter."""
        values: dict[str, Any] = self._fixed_params
        return values

    @fixed.setter
    def fixed(self, values: dict[str, Any]) -> None:
        self._fixed_params = values

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        """Every ``suggest_float``, ``suggest_int`` and ``suggest_categorical`` comes here."""
        return super()._suggest(name, distribution)

    def lacks(self, name: str) -> bool:
        """Whether the trial has no such parameter; :meth:`suggest` then returns None."""
        return False

    def suggest_int(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Optuna's own, which cannot return None."""
        return None if self.lacks(name) else super().suggest_int(name, *args, **kwargs)

    def check_domain(self, name: str, distribution: BaseDistribution) -> None:
        """Warn where the objective suggests a name again with another domain."""
        super()._check_distribution(name, distribution)

    def latest(self) -> FrozenTrial:
        """The trial for the sampler and the pruner: a copy whose attributes Optuna reads anew."""
        return super()._get_latest_trial()

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        return self.suggest(name, distribution)

    def _check_distribution(self, name: str, distribution: BaseDistribution) -> None:
        self.check_domain(name, distribution)

    def _get_latest_trial(self) -> FrozenTrial:
        return self.latest()


def with_one_direction(study: Any, direction: StudyDirection, pruner: BasePruner) -> optuna.Study:
    """The same study as a pruner takes it: Optuna's refuse several directions."""
    view: optuna.Study = copy.copy(study)
    view._directions = [direction]
    view.pruner = pruner
    return view


def storage_of(study: optuna.Study) -> BaseStorage:
    """Where a study is."""
    return study._storage


def study_id_of(study: optuna.Study | FrozenStudy) -> int:
    """A study's row."""
    return study._study_id


def copy_trial(
    trial: FrozenTrial, user_attrs: dict[str, Any], system_attrs: dict[str, Any]
) -> FrozenTrial:
    """A shallow copy with other attributes: Optuna's constructor would check every parameter."""
    copied = FrozenTrial.__new__(FrozenTrial)
    copied.__dict__.update(trial.__dict__)
    copied._user_attrs, copied._system_attrs = user_attrs, system_attrs
    return copied


def contains(distribution: BaseDistribution, internal: float) -> bool:
    """Whether a value is of a domain, in Optuna's numbers (``to_internal_repr``)."""
    return distribution._contains(internal)


class HalvingRule(NamedTuple):
    """The options of successive halving; see :class:`optuna.pruners.SuccessiveHalvingPruner`.

    Attributes:
        min_resource: None: "auto", and no trial has told yet.
    """

    min_resource: int | None
    reduction_factor: int
    min_early_stopping_rate: int
    bootstrap_count: int

    def resource(self, rung: int) -> int:
        """The step at which a trial reaches a rung."""
        assert self.min_resource is not None
        exponent = self.min_early_stopping_rate + rung
        return int(self.min_resource * self.reduction_factor**exponent)


def rule_of(pruner: SuccessiveHalvingPruner) -> HalvingRule:
    """The options that a pruner was made with."""
    return HalvingRule(
        pruner._min_resource,
        pruner._reduction_factor,
        pruner._min_early_stopping_rate,
        pruner._bootstrap_count,
    )


def rung_key(rung: int) -> str:
    """The system attribute that holds a trial's value at a rung."""
    return _completed_rung_key(rung)


def rung_of(trial: FrozenTrial) -> int:
    """The rung that a trial reaches next."""
    return _get_current_rung(trial)


def all_brackets(study: optuna.Study) -> optuna.Study:
    """The study with the trials of all brackets: Hyperband shows a sampler those of one alone."""
    whole: optuna.Study = getattr(study, "_study", study)
    return whole


def bracket_pruners(
    pruner: HyperbandPruner, study: optuna.Study, reads_trials: bool = True
) -> list[SuccessiveHalvingPruner]:
    """The pruner of each bracket; empty while a ``max_resource`` of "auto" is not known.

    Args:
        pruner: Hyperband.
        study: the study.
        reads_trials: whether the study's trials may tell what "auto" is.
    """
    if not pruner._pruners and (reads_trials or pruner._max_resource != "auto"):
        pruner._try_initialization(study)
    return pruner._pruners


def bracket_of(pruner: HyperbandPruner, study: optuna.Study, trial: FrozenTrial) -> int:
    """The bracket of a trial, which follows from the study's name and the trial's number."""
    return pruner._get_bracket_id(study, trial)
