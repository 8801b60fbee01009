"""Search spaces: the objective's own, with the spec's domains in place."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.domains import ChoiceDomain, Domain, FixedDomain, FloatDomain, IntDomain
from orchestrator.errors import UsageError, nearest

Space = dict[str, BaseDistribution]


def distribution(name: str, domain: Domain) -> BaseDistribution:
    """Optuna's distribution of a spec's domain.

    Raises:
        UsageError: Optuna refuses it.
    """
    try:
        match domain:
            case IntDomain(low, high, step, log):
                return IntDistribution(low, high, log=log, step=step)
            case FloatDomain(low, high, step, log):
                return FloatDistribution(low, high, log=log, step=step)
            case ChoiceDomain(choices):
                return CategoricalDistribution(choices)
            case FixedDomain(value):
                # A choice of one: every sampler takes it, whatever the value's type.
                return CategoricalDistribution((value,))
    except ValueError as error:
        raise UsageError(f"space.{name}: {error}") from None
    raise TypeError(f"unknown domain {domain!r}")


def merge(own: Mapping[str, BaseDistribution], domains: Mapping[str, Domain]) -> Space:
    """The objective's space with the spec's domains in place of its own.

    Raises:
        UsageError: a domain for a parameter that the objective does not have.
    """
    for name in domains:
        if name not in own:
            raise UsageError(f"unknown parameter space.{name}; {nearest(name, own)}")
    return {
        name: distribution(name, domains[name]) if name in domains else default
        for name, default in own.items()
    }


def size(space: Mapping[str, BaseDistribution]) -> int | None:
    """How many different configurations there are; None when a parameter is continuous."""
    counts = [count(each) for each in space.values()]
    return None if None in counts else math.prod(n for n in counts if n is not None)


def count(each: BaseDistribution) -> int | None:
    """How many values one parameter can take; None when it is continuous."""
    if isinstance(each, CategoricalDistribution):
        return len(each.choices)
    if isinstance(each, IntDistribution):
        return (each.high - each.low) // each.step + 1
    assert isinstance(each, FloatDistribution)
    if each.single():
        return 1
    return None if each.step is None else int((each.high - each.low) / each.step + 1e-9) + 1


def describe(each: BaseDistribution) -> str:
    """A distribution in words: ``32 to 512, step 32``."""
    if isinstance(each, CategoricalDistribution):
        return ", ".join(map(str, each.choices)) + (" (fixed)" if each.single() else "")
    assert isinstance(each, IntDistribution | FloatDistribution)
    if each.single():
        return f"{each.low:g} (fixed)"
    step = f", step {each.step:g}" if each.step not in (None, 1) else ""
    return f"{each.low:g} to {each.high:g}{step}{', log' if each.log else ''}"
