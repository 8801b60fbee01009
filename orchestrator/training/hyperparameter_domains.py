"""KerasTuner's numeric hyperparameters as Optuna's domains.

The parameter that Optuna records is the hyperparameter's value. Where Optuna has no such domain (a
multiplying step; ``"reverse_log"``), it is a choice of KerasTuner's own values: of all of them with
a step, and without one of 32 that are evenly spaced on KerasTuner's scale.
"""

from __future__ import annotations

import math

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

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
        return FloatDistribution(low, low + count * step, step=float(step))
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
