"""Patience with a database that is away: each query is repeated until it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from orchestrator.base.backoff import Stop, retry
from orchestrator.storage.database import Database, Row

Result = TypeVar("Result")


@dataclass(frozen=True)
class PatientDatabase:
    """Runs what may be repeated without harm; see :meth:`Database.rows` and :meth:`Database.call`.

    Attributes:
        database: where they run.
        patience_seconds: how long each is repeated; 0: it is not.
        stop: once it is asked, nothing is waited for.

    Raises:
        PatienceExceeded: from each method, when the database stays away longer.
    """

    database: Database
    patience_seconds: float
    stop: Stop | None = None

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        return self._ask(partial(self.database.rows, query, **parameters))

    def row(self, query: str, **parameters: Any) -> Row | None:
        return self._ask(partial(self.database.row, query, **parameters))

    def call(self, function: str, **arguments: Any) -> Row:
        return self._ask(partial(self.database.call, function, **arguments))

    def _ask(self, call: Callable[[], Result]) -> Result:
        return retry(call, self.patience_seconds, self.stop) if self.patience_seconds else call()
