"""Domains: what a parameter of a search space may be, as the spec writes it; and when it exists."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from orchestrator.base.printed import rounded
from orchestrator.errors import nearest

Scalar = bool | int | float | str

# The parents on which a parameter depends, each with the values with which it exists.
When = tuple[tuple[str, tuple[Scalar, ...]], ...]
# The same of one parameter, by parent.
Allowed = Mapping[str, tuple[Scalar, ...]]

Item = TypeVar("Item")

_ROUNDING = 1e-9  # by which a multiple of a step may be off
_EXAMPLE = "write { int = [1, 9] }, { float = [0.0, 1.0] }, { choice = [...] } or a bare value"


class Domain(ABC):
    """One parameter's domain.

    Attributes:
        when: the conditions under which the parameter exists; empty: it always does.
        prior: the value near which the best is expected; None: nothing is known.
    """

    when: When = ()
    prior: Scalar | None = None

    @abstractmethod
    def document(self) -> Any:
        """The domain as the spec writes it: JSON-able, and TOML."""


@dataclass(frozen=True)
class IntDomain(Domain):
    """``{ int = [32, 512], step = 32 }`` or ``{ int = [1, 1024], log = true }``."""

    low: int
    high: int
    step: int = 1
    log: bool = False
    when: When = ()
    prior: int | None = None

    def document(self) -> dict[str, Any]:
        step = {"step": self.step} if self.step != 1 else {}
        log = {"log": True} if self.log else {}
        return {"int": [self.low, self.high], **step, **log, **_rest(self)}


@dataclass(frozen=True)
class FloatDomain(Domain):
    """``{ float = [1e-4, 1e-2], log = true }`` or ``{ float = [0.0, 0.5], step = 0.1 }``."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    when: When = ()
    prior: float | None = None

    def document(self) -> dict[str, Any]:
        step = {"step": self.step} if self.step is not None else {}
        log = {"log": True} if self.log else {}
        return {"float": [self.low, self.high], **step, **log, **_rest(self)}


@dataclass(frozen=True)
class ChoiceDomain(Domain):
    """``{ choice = ["relu", "tanh"] }``."""

    choices: tuple[Scalar, ...]
    when: When = ()
    prior: Scalar | None = None

    def document(self) -> dict[str, Any]:
        return {"choice": list(self.choices), **_rest(self)}


@dataclass(frozen=True)
class FixedDomain(Domain):
    """A bare value: the parameter is not searched."""

    value: Scalar

    def document(self) -> Scalar:
        return self.value


def parse_domain(value: object) -> Domain:
    """The domain that a TOML value writes.

    Raises:
        ValueError: what is wrong with it and how to fix it, in one line.
    """
    if isinstance(value, Domain):
        return value
    if isinstance(value, Scalar):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a fixed number must be finite")
        return FixedDomain(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"a {type(value).__name__} is no domain; {_EXAMPLE}")
    kinds = value.keys() & {"int", "float", "choice"}
    if len(kinds) != 1:
        raise ValueError(f"a domain has exactly one of int, float and choice; {_EXAMPLE}")
    kind = kinds.pop()
    own = [] if kind == "choice" else ["step", "log"]
    known = [kind, *own, "prior", "when"]
    for key in value:
        if key not in known:
            raise ValueError(f"unknown key {key}; {nearest(str(key), known)}")
    domain = _choice(value["choice"]) if kind == "choice" else _range(kind, value)
    if "prior" in value:
        domain = replace(domain, prior=_prior(value["prior"], domain))
    return replace(domain, when=_when(value["when"])) if "when" in value else domain


def _prior(prior: object, domain: IntDomain | FloatDomain | ChoiceDomain) -> Any:
    if isinstance(domain, ChoiceDomain):
        for choice in domain.choices:
            if prior == choice and isinstance(prior, bool) == isinstance(choice, bool):
                return choice
        listed = ", ".join(map(_shown, domain.choices))
        raise ValueError(f"prior must be one of {listed}, not {_shown(prior)}")
    is_whole = isinstance(domain, IntDomain)
    if not _is_number(prior, int if is_whole else int | float):
        raise ValueError(f"prior must be a {'whole ' if is_whole else ''}number from the domain")
    assert isinstance(prior, int | float)
    low, high, step = domain.low, domain.high, domain.step
    if not low <= prior <= high:
        raise ValueError(
            f"prior {_shown(prior)} is outside of {_shown(low)} to {_shown(high)}; choose one "
            "inside, or widen the domain"
        )
    steps = 0.0 if step is None else (prior - low) / step
    if step is not None and abs(steps - round(steps)) > _ROUNDING:
        below = low + math.floor(steps) * step
        near = [each for each in (below, below + step) if each <= high]
        raise ValueError(
            f"prior {_shown(prior)} is not on a step of {_shown(step)} from {_shown(low)}; "
            f"write {' or '.join(map(_shown, near))}"
        )
    return prior if is_whole else float(prior)


def _shown(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return rounded(value, 6)
    return json.dumps(value, default=str)


def _when(table: object) -> When:
    if not isinstance(table, Mapping) or not table:
        raise ValueError('when needs a table of parameters, e.g. { optimizer = ["sgd"] }')
    found: dict[str, tuple[Scalar, ...]] = {}
    for parent, given in table.items():
        values = given if isinstance(given, list | tuple) else [given]
        if not values or not all(isinstance(each, Scalar) for each in values):
            raise ValueError(
                f"when.{parent} needs one or more values of {parent}: text, numbers, true or false"
            )
        found[str(parent)] = tuple(values)
    return tuple(found.items())


def _rest(domain: Domain) -> dict[str, Any]:
    """The keys that a document of every kind may have."""
    prior = {} if domain.prior is None else {"prior": domain.prior}
    when = {"when": {parent: list(values) for parent, values in domain.when}} if domain.when else {}
    return {**prior, **when}


def _choice(choices: object) -> ChoiceDomain:
    if not isinstance(choices, list) or not choices:
        raise ValueError('choice needs a list with at least one value, as ["relu", "tanh"]')
    for choice in choices:
        if not isinstance(choice, Scalar):
            raise ValueError("a choice is a number, a string or a boolean")
    if len({(type(choice), choice) for choice in choices}) < len(choices):
        raise ValueError("a choice stands twice; name each once")
    return ChoiceDomain(tuple(choices))


def _range(kind: str, table: Mapping[str, Any]) -> IntDomain | FloatDomain:
    bounds, step, log = table[kind], table.get("step"), table.get("log", False)
    wanted = int if kind == "int" else int | float
    numbers = list(bounds) if isinstance(bounds, list | tuple) else []
    if len(numbers) != 2 or not all(_is_number(number, wanted) for number in numbers):
        whole = "whole " if kind == "int" else ""
        raise ValueError(f"{kind} needs two finite {whole}numbers, as {kind} = [1, 9]")
    if step is not None and not (_is_number(step, wanted) and step > 0):
        raise ValueError(f"step must be a positive {kind}, not {step!r}")
    if not isinstance(log, bool):
        raise ValueError("log is true or false")
    low, high = numbers
    if low > high:
        raise ValueError(
            f"the low end {rounded(low, 6)} is above the high end {rounded(high, 6)}; swap them"
        )
    if log and low <= 0:
        raise ValueError(f"a log domain must start above 0, not at {rounded(low, 6)}")
    if log and step not in (None, 1):
        raise ValueError("log and step exclude each other; leave one out")
    if kind == "int":
        return IntDomain(low, high, step or 1, log)
    return FloatDomain(float(low), float(high), None if step is None else float(step), log)


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


class Conditions:
    """The ``when`` of each domain. All parents must have one of their values, and exist themselves.

    Args:
        domains: the ``[space]`` table.

    Raises:
        ValueError: a parameter depends on itself.
    """

    def __init__(self, domains: Mapping[str, Domain] | None = None) -> None:
        domains = domains or {}
        self._when = {name: dict(each.when) for name, each in domains.items() if each.when}
        for name in self._when:
            self._refuse_circle(name, ())

    def __bool__(self) -> bool:
        return bool(self._when)

    def __contains__(self, name: object) -> bool:
        return name in self._when

    def __iter__(self) -> Iterator[str]:
        return iter(self._when)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditions) and self._when == other._when

    def __hash__(self) -> int:
        return hash(tuple(self._when))

    def parents(self, name: str) -> Collection[str]:
        """The parameters that decide directly about one."""
        return self._when.get(name, {})

    def of(self, name: str) -> Allowed:
        """The values that each parent of a parameter may have."""
        return self._when.get(name, {})

    def hold(self, name: str, chosen: Mapping[str, Any]) -> bool:
        """Whether a parameter exists.

        Args:
            name: the parameter.
            chosen: the values of those that exist; a parent that is not among them does not.
        """
        return all(
            parent in chosen and is_among(chosen[parent], values)
            for parent, values in self.of(name).items()
        )

    def required(self, name: str) -> dict[str, tuple[Scalar, ...]]:
        """The values that all that a parameter depends on may have, also by way of its parents.

        One without a value left cannot be fulfilled.
        """
        found: dict[str, tuple[Scalar, ...]] = {}
        for parent, values in self.of(name).items():
            for each, allowed in [*self.required(parent).items(), (parent, values)]:
                before = found.get(each, allowed)
                found[each] = tuple(value for value in before if is_among(value, allowed))
        return found

    def obstacle(self, name: str, given: Mapping[str, Any]) -> str | None:
        """The parameter of a given value with which another one cannot exist; None: there is none.

        Args:
            name: the other one.
            given: some parameters' values; the others may have any.
        """
        for parent, values in self.required(name).items():
            if parent in given and not is_among(given[parent], values):
                return parent
        return None

    def in_order(self, space: Mapping[str, Item]) -> dict[str, Item]:
        """The parameters with each one after its parents, and otherwise as they stand."""
        ordered: dict[str, Item] = {}

        def put(name: str) -> None:
            if name in space and name not in ordered:
                for parent in self.parents(name):
                    put(parent)
                ordered[name] = space[name]

        for name in space:
            put(name)
        return ordered

    def _refuse_circle(self, name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise ValueError(f"{name} depends on itself ({circle}); remove one of these conditions")
        for parent in self.parents(name):
            self._refuse_circle(parent, (*path, name))


def is_among(value: object, values: Iterable[object]) -> bool:
    """Whether a value is one of some; true is not 1."""
    return any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in values
    )


def words(values: Collection[Scalar]) -> str:
    """Values as a sentence has them: ``sgd or rmsprop``."""
    *first, last = [
        str(value).lower() if isinstance(value, bool) else str(value) for value in values
    ]
    return f"{', '.join(first)} or {last}" if first else last
