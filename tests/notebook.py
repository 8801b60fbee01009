"""A trial for objectives without a worker: it writes down what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PARAMS: dict[str, Any] = {
    "activation": "relu", "units": 64, "units_2": 32, "units_3": 16, "units_4": 16,
    "dropout": 0.0, "learning_rate": 3e-3, "batch_size": 64,
}  # fmt: skip


class Notebook:
    """Its values, its checkpoint, its model."""

    number = 0
    is_leaving = False
    steps: int | None = None
    keep_at: int | None = None
    kept: tuple[int, dict[str, Any]] | None = None
    found: tuple[int, dict[str, Any]] | None = None

    def __init__(self, seed: int = 1, prune_at: int | None = None, **changes: Any) -> None:
        self.seed = seed
        self.params = {**PARAMS, **changes}
        self.reports: dict[int, float] = {}
        self.logs: dict[int, dict[str, Any]] = {}
        self._prune_at = prune_at

    def log(self, metrics: Any, step: int) -> None:
        self.logs[step] = dict(metrics)

    def report(self, value: float, step: int) -> None:
        self.reports[step] = value

    def should_prune(self) -> bool:
        return self._prune_at is not None and max(self.reports) >= self._prune_at

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        return self.found

    def checkpoint(self, step: int, capture: Callable[[], Mapping[str, Any]] | None) -> None:
        if step == self.keep_at and capture is not None:
            self.kept = (step, dict(capture()))

    def offer_model(self, value: float, save: Callable[[Path], object]) -> None:
        self.offered = value

    def set_user_attr(self, key: str, value: Any) -> None:
        raise AssertionError("not used")
