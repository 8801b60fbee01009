"""A finite space lists its configurations and tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.search.space import FiniteSpace

SPACE: dict[str, BaseDistribution] = {
    "x": CategoricalDistribution((1, True, None)),
    "n": IntDistribution(0, 4, step=2),
    "rate": FloatDistribution(0.1, 0.3, step=0.1),
}


def _always(name: str, chosen: Mapping[str, Any]) -> bool:
    return True


def _rate_beside_none(name: str, chosen: Mapping[str, Any]) -> bool:
    return name != "rate" or chosen["x"] is None


def test_every_configuration_has_a_key_of_its_own() -> None:
    space = FiniteSpace(SPACE, _always)
    assert space.configurations is not None
    assert len(space.configurations) == len(set(map(space.key, space.configurations))) == 27


def test_an_inactive_parameter_makes_no_configurations() -> None:
    space = FiniteSpace(SPACE, _rate_beside_none)
    assert space.configurations is not None and len(space.configurations) == 3 * 3 + 2 * 3
    assert space.key({"x": 1, "n": 0}) is not None
    assert space.key({"x": 1, "n": 0, "rate": 0.1}) is None


def test_the_last_digits_of_a_step_do_not_count() -> None:
    space = FiniteSpace(SPACE, _always)
    keys = [space.key({"x": 1, "n": 2, "rate": rate}) for rate in (0.3, 0.1 + 0.2)]
    assert keys[0] == keys[1] is not None


def test_what_is_outside_has_no_key() -> None:
    space = FiniteSpace(SPACE, _always)
    assert space.key({"x": 1, "n": 6, "rate": 0.1}) is None
    assert space.key({"x": "a", "n": 2, "rate": 0.1}) is None
    assert space.key({"x": 1, "n": 2}) is None


def test_a_large_space_is_not_listed() -> None:
    assert FiniteSpace({"n": IntDistribution(0, 10**9)}, _always).configurations is None
