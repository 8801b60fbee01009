"""Noise: what the folds and repeats of a trial say about the spread of its value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial
from pydantic import BaseModel

from orchestrator.report.arithmetic import deviation, mean
from orchestrator.sections import TrainingSection


class Spread(BaseModel):
    """Of one trial's trainings. ``std`` is the sample standard deviation (n - 1)."""

    trainings: int
    mean: float
    std: float
    standard_error: float


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of two or more values; None of fewer, or where one is not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    # The mean of equal values may be rounded, and then they would differ from it.
    std = deviation(values, ddof=1) if min(values) < max(values) else 0.0
    return Spread(
        trainings=len(values),
        mean=mean(values),
        std=std,
        standard_error=std / math.sqrt(len(values)),
    )


def rounds_of(trial: FrozenTrial, training: TrainingSection) -> list[float]:
    """The value of each fold and repeat that the trial has ended; none where it trains once."""
    if training.rounds == 1:
        return []
    return [value for _, value in sorted(trial.intermediate_values.items())]
