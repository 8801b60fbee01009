"""Conditions: which parameters of ``[space]`` exist only where others have some of their values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from orchestrator.spec.domains import Domain, Scalar

Item = TypeVar("Item")
Allowed = Mapping[str, tuple[Scalar, ...]]


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
            raise ValueError(f"{name} depends on itself ({circle}); leave one when out")
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
