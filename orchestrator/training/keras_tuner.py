"""A KerasTuner hypermodel, unchanged, as an objective: ``kt:package.module:build_model``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.errors import ObjectiveError
from orchestrator.training.base import Settings, Trial
from orchestrator.training.fit_call import call_fit
from orchestrator.training.fitting import Fitting
from orchestrator.training.hyperparameters import (
    Draw,
    HyperParameter,
    HyperParameters,
    Parent,
    Value,
    hyperparameters_class,
)
from orchestrator.training.keras import KerasObjective
from orchestrator.training.metric_names import (
    PARAMETERS,
    direction_of_class,
    tested,
    unknown_metric,
)

if TYPE_CHECKING:
    import keras

_MOST_BUILDS = 1000
_MOST = 2**31 - 1


class KerasTunerObjective(KerasObjective):
    """Builds with the user's ``build(hp)``; a ``HyperModel`` may bring its own ``fit``.

    The search space is found as the model is built, so a parameter exists only in the trials that
    use it.

    Args:
        target: a function of ``hp``, a ``HyperModel`` class, or an instance of one.
        settings: what the study fixes; see :meth:`Objective.with_settings`.

    Raises:
        ObjectiveError: the target builds nothing.
    """

    def __init__(self, target: Any, settings: Settings | None = None) -> None:
        super().__init__(settings or Settings())
        self.hypermodel = target
        hypermodel: Any = _made(target) if isinstance(target, type) else target
        self._instance = hypermodel
        self._build = getattr(hypermodel, "build", hypermodel)
        if not callable(self._build):
            raise ObjectiveError(
                f"{target!r} is no hypermodel; name a function of hp, or a class with build(hp)"
            )
        own_fit = getattr(hypermodel, "fit", None)
        # KerasTuner's own HyperModel.fit only calls model.fit.
        inherited = getattr(own_fit, "__module__", "").startswith("keras_tuner.")
        self._own_fit = None if inherited else own_fit
        self._hyperparameters: HyperParameters | None = None

    def build(self, trial: Trial) -> keras.Model:
        self._hyperparameters = hyperparameters = hyperparameters_of(trial)
        return self._build(hyperparameters)

    def epochs(self, trial: Trial) -> int:
        return self._of_fit(trial, "epochs") or self.settings.epochs

    def batch_size(self, trial: Trial) -> int | None:
        return self._of_fit(trial, "batch_size")

    def _of_fit(self, trial: Any, name: str) -> int | None:
        """A parameter that the spec may name although ``build(hp)`` does not: how to fit."""
        if name not in self.settings.space:
            return None
        return int(trial.suggest_int(name, 1, _MOST))  # of the spec's domain

    @property
    def has_own_fit(self) -> bool:
        return self._own_fit is not None

    def _fit(self, trial: Trial, model: keras.Model, fitting: Fitting) -> Any:
        if self._own_fit is None:
            return super()._fit(trial, model, fitting)
        with self._followed_builds(fitting):
            return call_fit(self._own_fit, (self._hyperparameters, model), fitting)

    @contextmanager
    def _followed_builds(self, fitting: Fitting) -> Iterator[None]:
        """Within the block, models that the user's ``fit`` builds are part of the training."""

        def build(hp: Any) -> keras.Model:
            model = self._build(hp)
            fitting.follow(model)
            return model

        try:
            self._instance.build = build
        except AttributeError:  # an object that takes no attributes
            yield
            return
        try:
            yield
        finally:
            del self._instance.build

    def _direction_by_class(self, metric: str) -> Literal["minimize", "maximize"] | None:
        self.prepare()
        model = self._build(hyperparameters_class()(_preset({})))
        logs = tested(model, self._rounds[0])
        if logs is None:
            return None
        known = [*logs, *(f"val_{name}" for name in logs), PARAMETERS]
        if metric not in known and not self.has_own_fit:
            raise unknown_metric(metric, known)
        wanted = metric.removeprefix("val_")
        for each in _flat_metrics(model.metrics):
            if each.name == wanted or wanted.endswith(f"_{each.name}"):
                return direction_of_class(each)
        return None

    def declared(self) -> dict[str, BaseDistribution]:
        """Every hyperparameter, found by building the model once for each choice.

        A scope that was entered and did not hold names its conditions; a branch of plain Python
        shows only where its choice is made. It needs TensorFlow, as KerasTuner's own summary does.
        """
        self.prepare()
        found: dict[str, BaseDistribution] = {}
        tried: set[tuple[Parent, ...]] = set()
        waiting: list[tuple[Parent, ...]] = [()]
        while waiting and len(tried) < _MOST_BUILDS:
            wanted = waiting.pop(0)
            if wanted in tried:
                continue
            tried.add(wanted)
            forced = {condition.name: condition.values[0] for condition in wanted}
            hyperparameters = hyperparameters_class()(_preset(forced))
            self._build(hyperparameters)
            waiting += hyperparameters.inactive_scopes
            for each in hyperparameters.space:
                if each.name not in found:
                    found[each.name] = each.domain
                    waiting += _choices(each, wanted)
        return found


def _made(cls: type) -> Any:
    """An object of a HyperModel class.

    Raises:
        ObjectiveError: its constructor wants arguments.
    """
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise ObjectiveError(
            f"{cls.__name__} needs arguments ({error}); make the object in its module, e.g. "
            f"hypermodel = {cls.__name__}(...), and name that: kt:{cls.__module__}:hypermodel"
        ) from None
    except ValueError:
        pass  # a class whose signature cannot be read
    return cls()


def _choices(parameter: HyperParameter, known: tuple[Parent, ...]) -> list[tuple[Parent, ...]]:
    """The conditions under which a parameter has each of its choices, where it has choices."""
    if not isinstance(parameter.domain, CategoricalDistribution):
        return []
    reached = tuple(condition for condition in known if condition.name != parameter.name)
    conditions = tuple(each for each in parameter.conditions if each not in reached)
    return [
        (*reached, *conditions, Parent(parameter.name, (choice,)))
        for choice in parameter.domain.choices
        if choice != parameter.default
    ]


def _flat_metrics(metrics: Sequence[Any]) -> list[Any]:
    """Metrics, and those that a compiled model holds together."""
    return [one for each in metrics for one in (getattr(each, "metrics", None) or [each])]


def hyperparameters_of(trial: Any) -> HyperParameters:
    """KerasTuner's ``hp`` with the values of a trial."""
    return hyperparameters_class()(lambda name, domain, default: _suggest(trial, name, domain))


def _preset(values: Mapping[str, Value]) -> Draw:
    return lambda name, domain, default: values.get(name, default)


def _suggest(trial: Any, name: str, domain: BaseDistribution) -> Value:
    if isinstance(domain, CategoricalDistribution):
        chosen: Value = trial.suggest_categorical(name, domain.choices)
        return chosen
    drawn: int | float | None  # None: a condition of [space] does not hold
    if isinstance(domain, IntDistribution):
        drawn = trial.suggest_int(name, domain.low, domain.high, step=domain.step, log=domain.log)
        return None if drawn is None else int(drawn)
    assert isinstance(domain, FloatDistribution)
    drawn = trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)
    return None if drawn is None else float(drawn)
