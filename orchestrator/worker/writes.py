"""Writes: what a trial has drawn, noted and reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg2.extras import Json

from orchestrator.storage.mirror import stored_number


@dataclass
class Writes:
    """What is to be written of a trial.

    Attributes:
        values: intermediate values by step.
        params: by name, Optuna's internal value and the distribution as JSON.
        user_attributes: JSON by key.
        system_attributes: JSON by key.
    """

    values: dict[int, float] = field(default_factory=dict)
    params: dict[str, tuple[float, str]] = field(default_factory=dict)
    user_attributes: dict[str, str] = field(default_factory=dict)
    system_attributes: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.params or self.user_attributes or self.system_attributes)

    def copy(self) -> Writes:
        return Writes(
            dict(self.values),
            dict(self.params),
            dict(self.user_attributes),
            dict(self.system_attributes),
        )

    def add(self, other: Writes) -> None:
        """Take over what was written later."""
        self.values.update(other.values)
        self.params.update(other.params)
        self.user_attributes.update(other.user_attributes)
        self.system_attributes.update(other.system_attributes)

    def remove(self, sent: Writes) -> None:
        """Forget what was sent, unless it has been written anew since."""
        for mine, theirs in (
            (self.values, sent.values),
            (self.params, sent.params),
            (self.user_attributes, sent.user_attributes),
            (self.system_attributes, sent.system_attributes),
        ):
            _remove_same(mine, theirs)

    def without_attributes(self) -> Writes:
        """What is of a bounded size, so that it can be stored in any case."""
        return Writes(dict(self.values), dict(self.params))

    def document(self) -> Json:
        """As ``orch.store`` takes it."""
        parts = {
            "values": [[step, *stored_number(value)] for step, value in self.values.items()],
            "params": [[name, *param] for name, param in self.params.items()],
            "user": self.user_attributes,
            "system": self.system_attributes,
        }
        return Json({name: part for name, part in parts.items() if part})


@dataclass
class Account:
    """All that a trial wrote, for its end.

    Attributes:
        everything: all of it.
        late: what is not known to have arrived.
        serial: the number of the newest write that has arrived; 0: everything is late.
    """

    everything: Writes = field(default_factory=Writes)
    late: Writes = field(default_factory=Writes)
    serial: int = 0


def _remove_same(mine: dict[Any, Any], sent: dict[Any, Any]) -> None:
    for key, value in sent.items():
        # The very object: a NaN is not equal to itself.
        if key in mine and mine[key] is value:
            del mine[key]
