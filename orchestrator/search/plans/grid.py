"""Grid search: every combination of finite domains, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from optuna.trial import FrozenTrial

from orchestrator.errors import UsageError
from orchestrator.search.plans.plan import (
    Configuration,
    ConfigurationPlan,
    configuration_of,
    key_of,
)
from orchestrator.search.space import IsActive, Space, count, size, values_of

MOST_CELLS = 100_000


class GridPlan(ConfigurationPlan):
    """All cells at once, the last parameter varying fastest.

    Args:
        space: finite domains.
        is_active: which parameters exist beside the others; an inactive one makes no cells.

    Raises:
        UsageError: a domain is continuous, or there are too many cells.
    """

    def __init__(self, space: Space, is_active: IsActive) -> None:
        for name, each in space.items():
            if count(each) is None:
                values_of(name, each)  # which says what to write instead
        if any((count(each) or 0) > MOST_CELLS for each in space.values()):
            raise _too_many(space)
        values = {name: values_of(name, each) for name, each in space.items()}

        def cells(chosen: Configuration, left: Sequence[str]) -> Iterator[Configuration]:
            if not left:
                yield chosen
            elif not is_active(left[0], chosen):
                yield from cells(chosen, left[1:])
            else:
                for value in values[left[0]]:
                    yield from cells({**chosen, left[0]: value}, left[1:])

        # Not the product of the domains: conditions may leave few of its cells.
        self._cells = list(islice(cells({}, list(values)), MOST_CELLS + 1))
        if len(self._cells) > MOST_CELLS:
            raise _too_many(space)

    def size(self) -> int:
        return len(self._cells)

    def next(self, trials: Sequence[FrozenTrial]) -> list[Configuration]:
        tried = {key_of(configuration_of(trial)) for trial in trials}
        return [cell for cell in self._cells if key_of(cell) not in tried]


def _too_many(space: Space) -> UsageError:
    return UsageError(
        f"a grid of {size(space):,} cells is above the limit of {MOST_CELLS:,}; make the domains "
        "coarser, or use --sampler random or qmc with a budget"
    )
