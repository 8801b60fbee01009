"""A KerasTuner hypermodel, unchanged, as an objective: ``kt:package.module:build_model``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.errors import ObjectiveError
from orchestrator.training.base import Settings, Trial
from orchestrator.training.hyperparameters import (
    Draw,
    HyperParameter,
    HyperParameters,
    Parent,
    Value,
    hyperparameters_class,
)
from orchestrator.training.keras import KerasObjective

if TYPE_CHECKING:
    import keras

_MOST_BUILDS = 1000


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
        hypermodel = target() if isinstance(target, type) else target
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
        return self.settings.epochs

    def fit(self, trial: Trial, model: keras.Model, x: Any, y: Any = None, **options: Any) -> Any:
        if self._own_fit is None:
            return super().fit(trial, model, x, y, **options)
        data = (x,) if y is None else (x, y)
        returned = self._own_fit(self._hyperparameters, model, *data, **options)
        return _metrics(returned, self.metrics[0])

    def _has_keras_fit(self) -> bool:
        return self._own_fit is None

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


def hyperparameters_of(trial: Any) -> HyperParameters:
    """KerasTuner's ``hp`` with the values of a trial."""
    return hyperparameters_class()(lambda name, domain, default: _suggest(trial, name, domain))


def _preset(values: Mapping[str, Value]) -> Draw:
    return lambda name, domain, default: values.get(name, default)


def _suggest(trial: Any, name: str, domain: BaseDistribution) -> Value:
    if isinstance(domain, CategoricalDistribution):
        chosen: Value = trial.suggest_categorical(name, domain.choices)
        return chosen
    if isinstance(domain, IntDistribution):
        return int(
            trial.suggest_int(name, domain.low, domain.high, step=domain.step, log=domain.log)
        )
    assert isinstance(domain, FloatDistribution)
    return float(
        trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)
    )


def _metrics(returned: Any, metric: str) -> Mapping[str, float] | None:
    """What a user's fit returned, as KerasTuner understands it; None of a Keras history.

    Raises:
        ObjectiveError: it is nothing that KerasTuner knows.
    """
    if hasattr(returned, "history"):
        return None  # the values were reported epoch by epoch
    if isinstance(returned, Mapping):
        return {str(name): float(value) for name, value in returned.items()}
    if isinstance(returned, list) and returned:
        each = [_metrics(one, metric) or {} for one in returned]
        return {
            name: sum(one[name] for one in each) / len(each)
            for name in each[0]
            if all(name in one for one in each)
        }
    try:
        return {metric: float(returned)}
    except (TypeError, ValueError):
        raise ObjectiveError(
            f"fit returned {returned!r}; return the history, a dictionary of metrics or a number"
        ) from None
