"""KerasTuner's hyperparameters on an Optuna trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

# KerasTuner's numeric hyperparameters as Optuna's domains.
#
# The parameter that Optuna records is the hyperparameter's value. Where Optuna has no such
# domain (a multiplying step; ``"reverse_log"``), it is a choice of KerasTuner's own values: of
# all of them with a step, and without one of 32 that are evenly spaced on KerasTuner's scale.

_SAMPLINGS = ("linear", "log", "reverse_log")
_POINTS = 32


def int_domain(
    name: str, low: int, high: int, step: int | None, sampling: str | None
) -> BaseDistribution:
    """The domain of ``hp.Int``.

    Raises:
        ValueError: as KerasTuner does.
    """
    for value in (low, high, *(() if step is None else (step,))):
        if value != int(value):
            raise ValueError(f"HyperParameters.Int(name='{name}') must have integers, not {value}.")
    sampling = _checked("Int", name, low, high, step, sampling)
    low, high = int(low), int(high)
    if sampling == "linear":
        width = int(step or 1)
        return IntDistribution(low, low + (high - low) // width * width, step=width)
    if sampling == "log" and step is None:
        return IntDistribution(low, high, log=True)
    values = [int(value + 1e-9) for value in _values(low, high, step, sampling)]
    return CategoricalDistribution(tuple(dict.fromkeys(values)))


def float_domain(
    name: str, low: float, high: float, step: float | None, sampling: str | None
) -> BaseDistribution:
    """The domain of ``hp.Float``.

    Raises:
        ValueError: as KerasTuner does.
    """
    sampling = _checked("Float", name, low, high, step, sampling)
    low, high = float(low), float(high)
    if sampling == "linear":
        if step is None:
            return FloatDistribution(low, high)
        count = int((high - low) / step + 1e-9)
        # In decimals, as they are written: 0.1 + 2 * 0.1 is not 0.3 in binary.
        last = Decimal(str(low)) + count * Decimal(str(step))
        return FloatDistribution(low, float(last), step=float(step))
    if sampling == "log" and step is None:
        return FloatDistribution(low, high, log=True)
    return CategoricalDistribution(tuple(_values(low, high, step, sampling)))


def _values(low: float, high: float, step: float | None, sampling: str) -> list[float]:
    if step is None:
        ratio = high / low
        rising = [low * ratio ** (index / (_POINTS - 1)) for index in range(_POINTS)]
    else:
        count = int(math.log(high / low, step) + 1e-8) + 1
        rising = [low * step**index for index in range(count)]
    return rising if sampling == "log" else [high + low - value for value in rising]


def _checked(
    kind: str, name: str, low: float, high: float, step: float | None, sampling: str | None
) -> str:
    where = f"For HyperParameters.{kind}(name='{name}'),"
    chosen = (sampling or "linear").lower()
    if low > high:
        raise ValueError(f"{where} min_value {low} is greater than the max_value {high}.")
    if chosen not in _SAMPLINGS:
        raise ValueError(f"{where} sampling must be one of {_SAMPLINGS}")
    if chosen != "linear" and low <= 0:
        raise ValueError(
            f"{where} sampling='{chosen}' does not support negative values, found min_value: {low}."
        )
    if chosen != "linear" and step is not None and step <= 1:
        raise ValueError(
            f"{where} expected step > 1 with sampling='{chosen}'. Received: step={step}."
        )
    return chosen


# KerasTuner's ``HyperParameters``, with the values of an Optuna trial.
#
# The interface and its rules are those of KerasTuner 1.4: a hyperparameter is known by its name
# and its conditions; one whose conditions do not hold is ``None``; a repeated name is the same
# value.

Value = bool | int | float | str | None
# From a name, its domain and its default to a value.
Draw = Callable[[str, BaseDistribution, Value], Value]


@dataclass(frozen=True)
class Parent:
    """A condition: the parent has one of these values."""

    name: str
    values: tuple[Value, ...]

    def is_active(self, values: dict[str, Value]) -> bool:
        return self.name in values and values[self.name] in self.values


@dataclass(frozen=True)
class HyperParameter:
    """One hyperparameter as it was declared.

    Attributes:
        name: with its scopes.
        domain: Optuna's.
        default: KerasTuner's.
        conditions: under which it exists.
        kind: KerasTuner's class, e.g. ``Int``.
        arguments: of that class, beside the name, the default and the conditions.
    """

    name: str
    domain: BaseDistribution
    default: Value
    conditions: tuple[Parent, ...]
    kind: str
    arguments: Mapping[str, Any]


class HyperParameters:
    """What a hypermodel's ``build(hp)`` is given.

    Args:
        draw: gives an active hyperparameter its value, once.
    """

    def __init__(self, draw: Draw) -> None:
        self.values: dict[str, Value] = {}
        self._draw = draw
        self._scopes: list[str] = []
        self._conditions: list[Parent] = []
        self._declared: list[HyperParameter] = []
        # The conditions of every scope that was entered and did not hold.
        self.inactive_scopes: list[tuple[Parent, ...]] = []

    @property
    def space(self) -> list[HyperParameter]:
        """Every hyperparameter declared so far, in order."""
        return list(self._declared)

    def Choice(
        self,
        name: str,
        values: Sequence[Value],
        ordered: bool | None = None,
        default: Value = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Value:
        """One of several values; ``ordered`` changes nothing here."""
        first = default if default is not None else values[0]
        domain = CategoricalDistribution(tuple(values))
        arguments = {"values": list(values), "ordered": ordered}
        return self._declare(name, domain, first, parent_name, parent_values, "Choice", arguments)

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str | None = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Value:
        """A whole number, both ends included; with ``"log"``, ``step`` multiplies."""
        domain = int_domain(name, min_value, max_value, step, sampling)
        first = min_value if default is None else default
        arguments = _range(min_value, max_value, step, sampling)
        return self._declare(name, domain, first, parent_name, parent_values, "Int", arguments)

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str | None = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Value:
        """A number; with ``"log"``, ``step`` multiplies."""
        domain = float_domain(name, min_value, max_value, step, sampling)
        first = float(min_value if default is None else default)
        arguments = _range(min_value, max_value, step, sampling)
        return self._declare(name, domain, first, parent_name, parent_values, "Float", arguments)

    def Boolean(
        self,
        name: str,
        default: bool = False,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Value:
        """True or false."""
        domain = CategoricalDistribution((False, True))
        return self._declare(name, domain, default, parent_name, parent_values, "Boolean", {})

    def Fixed(
        self,
        name: str,
        value: Value,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Value:
        """A value that is recorded and not searched."""
        domain = CategoricalDistribution((value,))
        arguments = {"value": value}
        return self._declare(name, domain, value, parent_name, parent_values, "Fixed", arguments)

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Names inside begin with ``name/``."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """What is declared inside exists only where the parent has one of the values.

        Raises:
            ValueError: the parent is not declared.
        """
        parent = self._full(parent_name)
        if not any(each.name == parent for each in self._declared):
            raise ValueError(f"`HyperParameter` named: {parent} not defined.")
        several = isinstance(parent_values, list | tuple)
        values = tuple(parent_values) if several else (parent_values,)
        self._conditions.append(Parent(parent, values))
        if not self._holds(self._conditions):
            self.inactive_scopes.append(tuple(self._conditions))
        try:
            yield
        finally:
            self._conditions.pop()

    def get(self, name: str) -> Value:
        """The value of an active hyperparameter.

        Raises:
            ValueError: it is inactive.
            KeyError: there is none of that name.
        """
        full = self._full(name)
        if full in self.values:
            return self.values[full]
        if any(each.name == full for each in self._declared):
            raise ValueError(f"{full} is currently inactive.")
        raise KeyError(f"{full} does not exist.")

    def __getitem__(self, name: str) -> Value:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return self._full(name) in self.values

    def is_active(self, hyperparameter: HyperParameter | str) -> bool:
        """Whether a hyperparameter's conditions hold."""
        if isinstance(hyperparameter, HyperParameter):
            return self._holds(hyperparameter.conditions)
        return any(
            self._holds(each.conditions) for each in self._declared if each.name == hyperparameter
        )

    def copy(self) -> HyperParameters:
        """The same values and declarations; it draws further values from the same trial."""
        twin = type(self)(self._draw)
        twin.values = dict(self.values)
        twin._declared = list(self._declared)
        return twin

    def _declare(
        self,
        name: str,
        domain: BaseDistribution,
        default: Value,
        parent_name: str | None,
        parent_values: Any,
        kind: str,
        arguments: Mapping[str, Any],
    ) -> Value:
        if parent_name is not None:
            with self.conditional_scope(parent_name, parent_values):
                return self._declare(name, domain, default, None, None, kind, arguments)
        full = self._full(name)
        if any(condition.name == full for condition in self._conditions):
            raise ValueError(
                "A conditional `HyperParameter` cannot have the same name as its parent. "
                f"Found: {full} and parent_name: {full}"
            )
        conditions = tuple(self._conditions)
        if not any(each.name == full and each.conditions == conditions for each in self._declared):
            self._declared.append(
                HyperParameter(full, domain, default, conditions, kind, arguments)
            )
        if not self._holds(conditions):
            return None  # nobody relies on an inactive value
        if full not in self.values:
            self.values[full] = self._draw(full, domain, default)
        return self.values[full]

    def _full(self, name: str) -> str:
        return "/".join([*self._scopes, str(name)])

    def _holds(self, conditions: Sequence[Parent]) -> bool:
        return all(condition.is_active(self.values) for condition in conditions)


def _range(low: float, high: float, step: float | None, sampling: str | None) -> dict[str, Any]:
    return {"min_value": low, "max_value": high, "step": step, "sampling": sampling or "linear"}


def hyperparameters_class() -> type[HyperParameters]:
    """:class:`HyperParameters`; where keras_tuner is installed, also an instance of its class."""
    try:
        import keras_tuner
    except ImportError:
        return HyperParameters

    def get_config(self: HyperParameters) -> dict[str, Any]:
        """The hyperparameters and their values, as KerasTuner stores them."""
        return {
            "space": [{"class_name": each.kind, "config": _config(each)} for each in self.space],
            "values": dict(self.values),
        }

    bases = (HyperParameters, keras_tuner.HyperParameters)
    return type("HyperParameters", bases, {"get_config": get_config})


def _config(parameter: HyperParameter) -> dict[str, Any]:
    """One hyperparameter, as KerasTuner stores it."""
    conditions = [
        {"class_name": "Parent", "config": {"name": each.name, "values": list(each.values)}}
        for each in parameter.conditions
    ]
    config = {"name": parameter.name, "conditions": conditions, **parameter.arguments}
    # A fixed value is its own default.
    return config if parameter.kind == "Fixed" else {**config, "default": parameter.default}
