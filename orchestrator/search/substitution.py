"""Substitution: whether a spec's domain can stand in place of the objective's own.

A table may be wider than the objective's domain, but its values must be of the same kind: a number
where the objective takes numbers, text where it takes text. A bare value must lie in the
objective's domain: beyond it, it is more often a slip than meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.errors import UsageError
from orchestrator.search.space import describe, distribution
from orchestrator.spec.domains import Domain, FixedDomain, Scalar
from orchestrator.spec.model import show


def check_domains(domains: Mapping[str, Domain], own: Mapping[str, BaseDistribution]) -> None:
    """Check every domain of a spec for a parameter that the objective declares.

    Raises:
        UsageError: the objective cannot take one.
    """
    for name, domain in domains.items():
        if name in own:
            check_domain(name, domain, own[name])


def check_domain(name: str, domain: Domain, own: BaseDistribution) -> None:
    """Check that an objective whose own domain of a parameter is ``own`` can take the spec's.

    Raises:
        UsageError: it cannot; the message has its own domain.
    """
    wanted = distribution(name, domain)
    taken, given = _kinds(own), _kinds(wanted)
    if "number" in taken:
        taken |= {"whole number"}
    known = f"the objective's own domain is {describe(own)}"
    if taken and not given <= taken:
        document = domain.document()
        if isinstance(domain, FixedDomain):
            raise UsageError(f"space.{name} cannot be {show(document)}; {known}")
        kinds = " or ".join(sorted(taken - ({"whole number"} if "number" in taken else set())))
        raise UsageError(f"space.{name} must be a {kinds}, not {show(document)}; {known}")
    if isinstance(domain, FixedDomain) and not _lies_in(domain.value, own):
        raise UsageError(
            f"space.{name} cannot be {show(domain.value)}; {known} "
            f"(to go beyond it, write {name} = {{ choice = [{show(domain.value)}] }})"
        )


def as_suggested(value: Any, own: BaseDistribution) -> Any:
    """A value of the spec's domain as the objective's own call returns it: 1 is 1.0 for a float."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and isinstance(own, FloatDistribution) else value


def _kinds(each: BaseDistribution) -> set[str]:
    if isinstance(each, CategoricalDistribution):
        return {_kind(choice) for choice in each.choices if choice is not None}
    return {"whole number" if isinstance(each, IntDistribution) else "number"}


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "whole number" if isinstance(value, int) else "number"
    return type(value).__name__


def _lies_in(value: Scalar, own: BaseDistribution) -> bool:
    if isinstance(own, CategoricalDistribution):
        # True == 1 in Python, but they are different choices.
        return any(
            isinstance(choice, Scalar)
            and value == choice
            and isinstance(value, bool) == isinstance(choice, bool)
            for choice in own.choices
        )
    assert isinstance(own, IntDistribution | FloatDistribution)
    return not isinstance(value, str) and own.low <= value <= own.high
