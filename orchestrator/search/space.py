"""Search spaces: the objective's own, with the spec's domains; what a finite one holds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.base.optuna_internals import contains
from orchestrator.base.printed import escaped, rounded
from orchestrator.errors import UsageError, nearest
from orchestrator.spec.choices import internal, place_of
from orchestrator.spec.domains import (
    ChoiceDomain,
    Domain,
    FixedDomain,
    FloatDomain,
    IntDomain,
    Scalar,
)
from orchestrator.spec.model import show

Space = dict[str, BaseDistribution]
# Whether a parameter exists beside those that are chosen before it, in the space's order.
IsActive = Callable[[str, Mapping[str, Any]], bool]

_MOST_VALUES = 64  # more than any parameter has that decides about others
_MOST_LISTED = 10_000  # configurations of a finite space
_DIGITS = 12  # values of a domain with steps may differ in the last ones


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


def merge(
    own: Mapping[str, BaseDistribution],
    catalogue: Mapping[str, BaseDistribution],
    domains: Mapping[str, Domain],
) -> Space:
    """The objective's space with the spec's domains in place of its own.

    Args:
        own: what is searched anyway.
        catalogue: what is searched only where the spec names it. It comes first: other parameters
            may depend on it.
        domains: the spec's.

    Raises:
        UsageError: a domain for a parameter that the objective does not have.
    """
    for name in domains:
        if name not in own and name not in catalogue:
            known = [*own, *catalogue]
            raise UsageError(f"unknown parameter space.{name}; {nearest(name, known)}")
    wanted = {name: each for name, each in catalogue.items() if name in domains}
    return {
        name: distribution(name, domains[name]) if name in domains else default
        for name, default in {**wanted, **own}.items()
    }


def values_of(name: str, each: BaseDistribution) -> list[Scalar]:
    """Every value of a finite domain, in order.

    Raises:
        UsageError: it is continuous.
    """
    if isinstance(each, CategoricalDistribution):
        return [choice for choice in each.choices if choice is not None]
    if isinstance(each, IntDistribution):
        return list(range(each.low, each.high + 1, each.step))
    assert isinstance(each, FloatDistribution)
    total = count(each)
    if total is None:
        raise UsageError(
            f"space.{name} is continuous; give it a step or a choice, as "
            f"{name} = {{ choice = [{_shown(each.low)}, {_shown(each.high)}] }}"
        )
    # Rounded, so that 0.1 + 2 * 0.1 is 0.3 in the report, and in a replay.
    return [round(each.low + index * (each.step or 0.0), 12) for index in range(total)]


def check_type(name: str, value: Any, each: BaseDistribution) -> None:
    """Check that a value is of a domain's kind; a number may lie outside of its range.

    Raises:
        UsageError: text or a boolean for a number, a fraction for a whole number, or none of the
            choices.
    """
    try:
        if isinstance(each, CategoricalDistribution):
            place_of(each, value)
            return
        if isinstance(value, int | float) and not isinstance(value, bool):
            is_whole = isinstance(each, IntDistribution)
            if value == int(value) if is_whole else not math.isnan(value):
                return
    except (ValueError, OverflowError):  # not among the choices; no integer or float holds it
        pass
    raise UsageError(f"{name} cannot be {value!r}; its domain is {describe(each)}")


def check_value(name: str, value: Any, each: BaseDistribution) -> None:
    """Check that a value is of a domain.

    Raises:
        UsageError: it is not.
    """
    check_type(name, value, each)
    if not contains(each, internal(each, value)):
        raise UsageError(f"{name} cannot be {value!r}; its domain is {describe(each)}")


def fits(value: Any, each: BaseDistribution) -> bool:
    """Whether a value is of a domain."""
    try:
        check_value("", value, each)
    except UsageError:
        return False
    return True


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


def reachable(space: Mapping[str, BaseDistribution], is_active: IsActive) -> Space:
    """The parameters that a configuration may have: one that is fixed may rule others out."""
    found: Space = {}
    chosen: dict[str, Any] = {}  # a value of each that stands before, as ``is_active`` is promised
    varied: dict[str, list[Any]] = {}
    for name, each in space.items():
        others = [{**chosen, other: v} for other, values in varied.items() for v in values]
        if not any(is_active(name, beside) for beside in (chosen, *others)):
            continue
        found[name] = each
        values = _some_values(name, each)
        chosen[name] = values[0]
        if len(values) > 1:
            varied[name] = values
    return found


def _some_values(name: str, each: BaseDistribution) -> list[Any]:
    """All values of a parameter, or of one with many the ends and the middle."""
    cells = count(each)
    if cells is not None and cells <= _MOST_VALUES:
        return values_of(name, each)
    assert isinstance(each, IntDistribution | FloatDistribution)
    middle = (each.low + each.high) / 2
    return [each.low, int(middle) if isinstance(each, IntDistribution) else middle, each.high]


def describe(each: BaseDistribution) -> str:
    """A distribution in words: ``32 to 512, step 32``."""
    if isinstance(each, CategoricalDistribution):
        return ", ".join(map(_as_written, each.choices)) + (" (fixed)" if each.single() else "")
    assert isinstance(each, IntDistribution | FloatDistribution)
    if each.single():
        return f"{_shown(each.low)} (fixed)"
    step = "" if each.step in (None, 1) else f", step {_shown(each.step)}"
    return f"{_shown(each.low)} to {_shown(each.high)}{step}{', log' if each.log else ''}"


def _as_written(choice: object) -> str:
    """A choice in one line; true and false as TOML and a command have them."""
    return str(choice).lower() if isinstance(choice, bool) else escaped(str(choice))


def _shown(value: float) -> str:
    return rounded(value, 6)


class FiniteSpace:
    """The configurations of a finite space.

    Args:
        space: finite domains.
        is_active: which parameters exist beside the others.
    """

    def __init__(self, space: Space, is_active: IsActive) -> None:
        self._space = space
        self._is_active = is_active
        cells = size(space)
        assert cells is not None
        self._is_listed = cells <= _MOST_LISTED

    @cached_property
    def configurations(self) -> list[dict[str, Any]] | None:
        """All of them; None where they are too many to list."""
        if not self._is_listed:
            return None
        values = {name: _values(name, each) for name, each in self._space.items()}
        return list(configurations(values, self._is_active))

    def key(self, params: Mapping[str, Any]) -> str | None:
        """A text that is equal for equal configurations; None for what is not one of the space."""
        chosen: dict[str, Any] = {}
        written: dict[str, Any] = {}
        for name, each in self._space.items():
            if not self._is_active(name, chosen):
                continue
            try:
                number = internal(each, params[name])
            except (KeyError, ValueError):
                return None
            if not _contains(each, number):
                return None
            chosen[name] = params[name]
            written[name] = _written(each, number)
        if chosen.keys() != params.keys():
            return None
        text = json.dumps(written, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def configurations(
    values: Mapping[str, Sequence[Any]], is_active: IsActive
) -> Iterator[dict[str, Any]]:
    """All configurations of finite domains, the last parameter varying fastest.

    Args:
        values: of each parameter, after those on which its presence depends.
        is_active: which parameters exist beside the others; the others have no value.
    """

    def extended(chosen: dict[str, Any], left: Sequence[str]) -> Iterator[dict[str, Any]]:
        if not left:
            yield chosen
        elif not is_active(left[0], chosen):
            yield from extended(chosen, left[1:])
        else:
            for value in values[left[0]]:
                yield from extended({**chosen, left[0]: value}, left[1:])

    return extended({}, list(values))


def _values(name: str, each: BaseDistribution) -> list[Any]:
    if isinstance(each, CategoricalDistribution):
        return list(each.choices)  # None too
    return list(values_of(name, each))


def _contains(each: BaseDistribution, number: float) -> bool:
    """Whether a value lies in its domain, which may have changed since."""
    if isinstance(each, CategoricalDistribution):
        return True
    low, high = float(each.low), float(each.high)  # type: ignore[attr-defined]
    slack = 10.0**-_DIGITS * max(1.0, abs(low), abs(high))
    return low - slack <= number <= high + slack


def _written(each: BaseDistribution, number: float) -> Any:
    if isinstance(each, CategoricalDistribution):
        return [each.choices[int(number)]]
    return f"{number:.{_DIGITS}g}"


# Substitution: whether a spec's domain can stand in place of the objective's own.
#
# A table may be wider than the objective's domain, but its values must be of the same kind: a
# number where the objective takes numbers, text where it takes text. A bare value must lie in
# the objective's domain: beyond it, it is more often a slip than meant.


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
