"""Plan: a strategy that says in advance which configurations are tried, stage by stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.errors import UsageError
from orchestrator.search.space import IsActive, Space, configurations, count, size, values_of
from orchestrator.spec.choices import distinct
from orchestrator.spec.domains import Scalar

Configuration = dict[str, Scalar]

MOST_CELLS = 100_000


@dataclass(frozen=True)
class Step:
    """What a plan wants done now; nothing at all: wait for the open trials, or the plan is done.

    Attributes:
        queue: new trials, each with its parameters (what is left out is drawn) and its system
            attributes.
        promote: ids of paused trials that go on.
        prune: ids of paused trials that end here.
    """

    queue: list[tuple[Configuration, dict[str, Any]]] = field(default_factory=list)
    promote: list[int] = field(default_factory=list)
    prune: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.queue or self.promote or self.prune)


class Plan(ABC):
    """Decides from the trials so far which configurations come next.

    It keeps no state: any worker may ask at any time, and the same trials give the same answer.
    The configurations are queued as WAITING trials, so each is run exactly once, whoever dies.
    """

    @abstractmethod
    def size(self) -> int | None:
        """How many trials the whole plan has at most; None: it does not say."""

    @abstractmethod
    def step(self, trials: Sequence[FrozenTrial], budget: int) -> Step:
        """What is to be done now.

        Args:
            trials: all trials of the study, retries included.
            budget: how many trials the study ends with.
        """


class ConfigurationPlan(Plan):
    """A plan that knows the parameters of its trials."""

    @abstractmethod
    def next(self, trials: Sequence[FrozenTrial]) -> list[Configuration]:
        """The configurations to queue now."""

    def step(self, trials: Sequence[FrozenTrial], budget: int) -> Step:
        return Step(queue=[(configuration, {}) for configuration in self.next(trials)])


class EnqueuedPlan(ConfigurationPlan):
    """Nothing but what was queued by hand (``orch enqueue``, ``orch confirm``)."""

    def size(self) -> None:
        return None

    def next(self, trials: Sequence[FrozenTrial]) -> list[Configuration]:
        return []


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

        # Not the product of the domains: conditions may leave few of its cells.
        self._cells = list(islice(configurations(values, is_active), MOST_CELLS + 1))
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


def is_open(trials: Sequence[FrozenTrial]) -> bool:
    """Whether a trial still waits or runs."""
    return any(not trial.state.is_finished() for trial in trials)


def configuration_of(trial: FrozenTrial) -> Configuration:
    """What a trial was queued with; what it drew where it was not queued."""
    queued: Mapping[str, Scalar] = trial.system_attrs.get("fixed_params", trial.params)
    return dict(queued)


def key_of(configuration: Mapping[str, Any]) -> tuple[tuple[str, object], ...]:
    """Equal for equal configurations; 1, 1.0 and true are three values."""
    return tuple((name, distinct(configuration[name])) for name in sorted(configuration))
