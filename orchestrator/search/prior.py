"""Prior: where in a search space a user expects the best configuration.

A user names one value for some of the parameters. As in PriorBand (Mallik et al., "PriorBand:
Practical hyperparameter optimization in the age of deep learning", 2023), a number's prior is a
normal distribution around it, cut off at the bounds, with a quarter of the range as its standard
deviation; of choices, the named one is four times as likely as each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from orchestrator.search.encoded_space import (
    Array,
    Categories,
    EncodedSpace,
    Grid,
    Range,
    code_within,
)

_SPREAD = 0.25
_TIMES_AS_LIKELY = 4.0


class Prior:
    """How likely configurations of a space are, before any trial.

    Args:
        space: its configurations.
        values: the expected ones, by parameter; those of other spaces are left out.

    Raises:
        ValueError: a parameter cannot have its value.
    """

    def __init__(self, space: EncodedSpace, values: Mapping[str, Any]) -> None:
        self._space = space
        self._centres: dict[int, float] = {}
        for column, (name, each) in enumerate(zip(space.names, space.parameters, strict=True)):
            if name in values:
                try:
                    self._centres[column] = code_within(each, values[name])
                except ValueError as error:
                    raise ValueError(f"the prior of {name} cannot be {error}") from None

    def __bool__(self) -> bool:
        return bool(self._centres)

    def log_density(self, rows: Array) -> Array:
        """Of each configuration, less that of the expected one.

        A parameter that a configuration does not have counts as expected.
        """
        total = np.zeros(len(rows))
        for column, centre in self._centres.items():
            codes = rows[:, column]
            density = _log_density(self._space.parameters[column], centre, codes)
            total += np.where(np.isnan(codes), 0.0, density)
        return total

    def spread(self, unit: Array) -> Array:
        """Configurations for points of the unit cube, more of them where more are expected."""
        rows = self._space.spread(unit)
        for column, centre in self._centres.items():
            rows[:, column] = _quantile(self._space.parameters[column], centre, unit[:, column])
        return self._space.settle(rows)


def _log_density(parameter: Categories | Grid | Range, centre: float, codes: Array) -> Array:
    if isinstance(parameter, Categories):
        return np.where(codes == centre, 0.0, -np.log(_TIMES_AS_LIKELY))
    return np.asarray(-0.5 * ((codes - centre) / _SPREAD) ** 2)


def _quantile(parameter: Categories | Grid | Range, centre: float, unit: Array) -> Array:
    """The codes below which these shares of the prior lie."""
    if isinstance(parameter, Range):
        low, high = ndtr(-centre / _SPREAD), ndtr((1 - centre) / _SPREAD)
        return parameter.snap(centre + _SPREAD * ndtri(low + unit * (high - low)))
    if isinstance(parameter, Grid):
        listed = parameter.codes
    else:
        listed = np.arange(len(parameter.choices)).astype(float)
    weights = np.exp(_log_density(parameter, centre, listed))
    shares = np.cumsum(weights) / weights.sum()
    return np.asarray(listed[np.minimum(np.searchsorted(shares, unit), len(listed) - 1)])
