"""FiniteSpace: all configurations of a space without continuous parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from orchestrator.search.space import IsActive, Space, size, values_of
from orchestrator.spec.choices import internal

_MOST_LISTED = 10_000
_DIGITS = 12  # values of a domain with steps may differ in the last ones


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
        return list(self._cells({}, list(self._space))) if self._is_listed else None

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

    def _cells(self, chosen: dict[str, Any], left: list[str]) -> Iterator[dict[str, Any]]:
        if not left:
            yield chosen
        elif not self._is_active(left[0], chosen):
            yield from self._cells(chosen, left[1:])
        else:
            for value in _values(left[0], self._space[left[0]]):
                yield from self._cells({**chosen, left[0]: value}, left[1:])


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
