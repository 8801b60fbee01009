"""Conditional spaces: whether the conditions of ``[space]`` fit the domains, and what follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from orchestrator.errors import UsageError, nearest
from orchestrator.search.space import count, describe
from orchestrator.spec.domains import Conditions, Scalar, is_among, words
from orchestrator.spec.model import show

Domains = Mapping[str, BaseDistribution]


def check_conditions(
    conditions: Conditions,
    space: Domains,
    needs: Callable[[str], bool],
    catalogue: Container[str],
    is_function: bool,
) -> None:
    """Check that every condition is about parameters and values that there are.

    A parent that is fixed to another value rules its children out; that is not refused, because one
    ``--param`` of a search may do so.

    Args:
        conditions: of ``[space]``.
        space: the domain of every parameter that is known before the first trial.
        needs: whether the objective cannot do without a parameter.
        catalogue: what the objective searches only where ``[space]`` names it.
        is_function: the objective suggests its parameters itself.

    Raises:
        UsageError: an unknown parent or value, or a condition that can never hold.
    """
    for name in conditions:
        if needs(name):
            raise UsageError(
                f"space.{name} cannot have a condition: every trial of this objective needs it"
            )
        for parent, values in conditions.of(name).items():
            if parent not in space:
                raise _unknown(name, parent, space, catalogue, is_function)
            for value in values:
                _check_value(name, parent, value, space[parent])
        for parent, left in conditions.required(name).items():
            if not left:
                raise UsageError(
                    f"the condition of space.{name} never holds: it and what it depends on need "
                    f"different values of {parent}"
                )


def _unknown(
    name: str, parent: str, space: Domains, catalogue: Container[str], is_function: bool
) -> UsageError:
    if parent in catalogue:
        return UsageError(
            f"space.{name} depends on {parent}, which is searched only where [space] names it; add "
            f"space.{parent}"
        )
    hint = " (those of a function are known by [space] alone)" if is_function else ""
    known = nearest(parent, [each for each in space if each != name])
    return UsageError(f"space.{name}.when names an unknown parameter {parent}{hint}; {known}")


def _check_value(name: str, parent: str, value: Scalar, each: BaseDistribution) -> None:
    where = f"space.{name}.when"
    if isinstance(each, CategoricalDistribution):
        choices = [choice for choice in each.choices if choice is not None]
        if is_among(value, choices):
            return
        if each.single() and type(value) is type(choices[0]):
            return  # ruled out: the parent is fixed
        texts = [choice for choice in choices if isinstance(choice, str)]
        known = nearest(value, texts) if isinstance(value, str) and texts else None
    elif isinstance(each, IntDistribution):
        if is_among(value, range(each.low, each.high + 1, each.step)):
            return
        known = None
    else:
        raise UsageError(
            f"{where} names {parent}, which is continuous; a condition is about a choice, a whole "
            "number or a fixed value"
        )
    raise UsageError(
        f"{where}: {parent} is never {show(value)}; {known or f'its domain is {describe(each)}'}"
    )


def can_exist(name: str, conditions: Conditions, space: Domains) -> bool:
    """Whether no fixed parameter rules one out."""
    return conditions.obstacle(name, fixed_values(space)) is None


def fixed_values(space: Domains) -> dict[str, Any]:
    """The value of each choice of one."""
    return {
        name: each.choices[0]
        for name, each in space.items()
        if isinstance(each, CategoricalDistribution) and each.single()
    }


def configurations(conditions: Conditions, space: Domains) -> int | None:
    """How many different configurations there are; None where a parameter is continuous."""
    counts = {name: count(each) for name, each in space.items()}
    if None in counts.values():
        return None
    parents = {parent for name in conditions for parent in conditions.parents(name)}
    deciding = [name for name in conditions.in_order(space) if name in parents]

    def total(chosen: dict[str, Any], left: list[str]) -> int:
        if not left:
            return math.prod(
                counts[name] or 0
                for name in space
                if name not in parents and conditions.hold(name, chosen)
            )
        name, rest = left[0], left[1:]
        if not conditions.hold(name, chosen):
            return total(chosen, rest)
        weighed = _weighed(name, space[name], conditions)
        return sum(weight * total({**chosen, name: value}, rest) for value, weight in weighed)

    return total({}, deciding)


def _weighed(
    name: str, each: BaseDistribution, conditions: Conditions
) -> Iterator[tuple[object, int]]:
    """The values that conditions name, and one for all the others, with how many they are."""
    named: list[Scalar] = []
    for child in conditions:
        for value in conditions.of(child).get(name, ()):
            if not is_among(value, named) and _is_possible(value, each):
                named.append(value)
    yield from ((value, 1) for value in named)
    others = (count(each) or 0) - len(named)
    if others:
        yield object(), others


def _is_possible(value: Scalar, each: BaseDistribution) -> bool:
    return not isinstance(each, CategoricalDistribution) or is_among(value, each.choices)


def condition_words(conditions: Conditions, name: str) -> str:
    """When a parameter exists: ``optimizer is sgd or rmsprop``."""
    return " and ".join(
        f"{parent} is {words(values)}" for parent, values in conditions.of(name).items()
    )
