"""Choices: the values of a categorical parameter, as they come back from the database.

Optuna stores them as JSON, takes 1 for True where it looks for one, and warns of each list and dict
whenever it reads a domain. Here 1, 1.0, true and "1" are four choices, and reading is silent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
    json_to_distribution,
)

# What JSON gives back as it was.
_PLAIN = (str, int, float, bool, type(None))


def distinct(value: object) -> object:
    """What tells a parameter's value from others, and has a hash: lists and dicts have none."""
    if isinstance(value, float) and math.isnan(value):
        return (_text(value),)
    if type(value) in (float, str):
        return value
    return (_text(value),)


def place_of(domain: CategoricalDistribution, value: Any) -> int:
    """Which of the choices a value is; the one that is equal where none is the same.

    Raises:
        ValueError: it is none of them.
    """
    wanted = distinct(value)
    for place, choice in enumerate(domain.choices):
        if type(choice) is type(value) and distinct(choice) == wanted:
            return place
    return int(domain.to_internal_repr(value))


def internal(domain: BaseDistribution, value: Any) -> float:
    """The number that Optuna stores for a value of a domain.

    Raises:
        ValueError: it is not of the domain.
    """
    if isinstance(domain, CategoricalDistribution):
        return place_of(domain, value)
    return domain.to_internal_repr(value)


@lru_cache(maxsize=1024)
def read_domain(text: str) -> BaseDistribution:
    """A domain as Optuna wrote it, without a warning for each choice that is a list or a dict.

    Python's warnings can only be silenced for all threads of a process, so none is caused. The same
    text gives the same object: a list with NaN is equal to nothing else.
    """
    document = json.loads(text)
    if document.get("name") != CategoricalDistribution.__name__:
        return json_to_distribution(text)
    return domain_of(document["attributes"]["choices"])


def stored_form(domain: CategoricalDistribution) -> CategoricalDistribution:
    """A domain as it comes back from the database: a tuple is a list then, an enum its value.

    Raises:
        TypeError: a choice cannot be stored.
    """
    try:
        for choice in domain.choices:
            if isinstance(choice, int):
                float(choice)  # as Optuna does where it compares choices with NaN
        if all(type(choice) in _PLAIN for choice in domain.choices):
            return domain
        stored = read_domain(distribution_to_json(domain))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(" ".join(str(error).split())) from None
    assert isinstance(stored, CategoricalDistribution)
    return stored


def domain_of(choices: Sequence[Any]) -> CategoricalDistribution:
    """Optuna's domain of some choices, without its warnings.

    Raises:
        ValueError: there are none.
    """
    if len(choices) == 0:
        return CategoricalDistribution(choices)  # which raises Optuna's own error
    domain = CategoricalDistribution.__new__(CategoricalDistribution)
    domain.choices = tuple(choices)
    return domain


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
