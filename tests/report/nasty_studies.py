"""Studies of values that arithmetic has trouble with: huge, tiny, equal, infinite, out of range."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from report.studies import Made, store

from orchestrator.storage.database import Database

MOST = sys.float_info.max
LEAST = 5e-324
SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-MOST, MOST),
    "rate": FloatDistribution(LEAST, MOST, log=True),
    "count": IntDistribution(0, 9),
}
CHOICES: dict[str, BaseDistribution] = {
    "epochs": CategoricalDistribution(("few", "many")),
    "size": CategoricalDistribution((10**400, -(10**400), 1)),
    "limit": CategoricalDistribution((math.inf, math.nan, 1.5)),
}


def _shares(count: int) -> Iterator[tuple[int, float]]:
    """Numbers, each with a share from -1 to 1 that jumps to and fro."""
    for number in range(count):
        yield number, -1 + 2 * (number * 7 % count) / (count - 1)


def huge(count: int = 40) -> list[Made]:
    """Values, parameters and curves over all that a float holds."""
    return [
        Made(
            "COMPLETE" if number % 5 else "PRUNED",
            {"x": share * MOST, "rate": 2.0 ** (1023 * share), "count": number % 10},
            [share * MOST],
            [share * MOST, -share * MOST, share * MOST],
        )
        for number, share in _shares(count)
    ]


def tiny(count: int = 40) -> list[Made]:
    """Values so small that their squares are 0."""
    return [
        Made("COMPLETE", {"x": share, "rate": LEAST, "count": number % 10}, [number * LEAST])
        for number, share in _shares(count)
    ]


def outside(count: int = 60) -> list[Made]:
    """Parameters out of their ranges, as enqueue and import take them; x alone decides."""
    return [
        Made(
            "COMPLETE",
            {"x": share * 8, "rate": 0.01, "count": -number},
            [share**2],
        )
        for number, share in _shares(count)
    ]


OUTSIDE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-5, 5),
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "count": IntDistribution(0, 9),
}


def endless(count: int = 40) -> list[Made]:
    """Parameters that are infinite."""
    return [
        Made(
            "COMPLETE",
            {"x": math.inf if number % 2 else -math.inf, "rate": math.inf, "count": 1},
            [share],
        )
        for number, share in _shares(count)
    ]


def infinite(count: int = 40) -> list[Made]:
    """Values that are all infinite."""
    return [
        Made("COMPLETE", {"x": share, "rate": 1.0, "count": 1}, [math.copysign(math.inf, share)])
        for number, share in _shares(count)
    ]


def constant(value: float, count: int = 40) -> list[Made]:
    """The same value for all."""
    return [
        Made("COMPLETE", {"x": share, "rate": 1.0, "count": 1}, [value], [value, value])
        for number, share in _shares(count)
    ]


def single() -> list[Made]:
    """One trial, at the largest float."""
    return [Made("COMPLETE", {"x": MOST, "rate": MOST, "count": 9}, [MOST], [-MOST, MOST])]


def grid() -> list[Made]:
    """A full grid of huge values, which x decides."""
    return [
        Made("COMPLETE", {"x": x, "y": y}, [MOST * (2 * x - 1)])
        for x, y in itertools.product((0, 1), (0, 1, 2))
    ]


GRID: dict[str, BaseDistribution] = {"x": IntDistribution(0, 1), "y": IntDistribution(0, 2)}


def choices(count: int = 40) -> list[Made]:
    """Choices that no float holds, and words where a number of epochs may stand."""
    every = [CHOICES[name] for name in CHOICES]
    made = []
    for number, share in _shares(count):
        drawn = [each.choices[number % len(each.choices)] for each in every]  # type: ignore[attr-defined]
        made.append(Made("COMPLETE", dict(zip(CHOICES, drawn, strict=True)), [share], [share]))
    return made


def _store_outside(database: Database, name: str) -> None:
    study = store(database, name, outside(), OUTSIDE)
    # Optuna takes no 0 for a logarithmic domain; a storage that is imported may have one.
    database.execute(
        "UPDATE trial_params SET param_value = -mod(trials.number, 2) FROM trials WHERE"
        " trials.trial_id = trial_params.trial_id AND param_name = 'rate'"
        " AND study_id = %(study_id)s",
        {"study_id": study.study_id},
    )


_KINDS: dict[str, Callable[[Database, str], object]] = {
    "huge": lambda database, name: store(database, name, huge(), SPACE),
    "huge-maximized": lambda database, name: store(
        database, name, huge(), SPACE, direction="maximize"
    ),
    "tiny": lambda database, name: store(database, name, tiny(), SPACE),
    "outside": _store_outside,
    "endless": lambda database, name: store(database, name, endless(), SPACE),
    "infinite": lambda database, name: store(database, name, infinite(), SPACE),
    "constant": lambda database, name: store(database, name, constant(0.0), SPACE),
    "constant-huge": lambda database, name: store(database, name, constant(-MOST), SPACE),
    "single": lambda database, name: store(database, name, single(), SPACE),
    "grid": lambda database, name: store(database, name, grid(), GRID),
    "choices": lambda database, name: store(database, name, choices(), CHOICES),
    "pareto": lambda database, name: store(
        database, name,
        [Made(each.state, each.params, [each.values[0], -each.values[0]]) for each in huge()],
        SPACE, metric=["value", "size"], direction=["minimize", "maximize"],
    ),
}  # fmt: skip
KINDS = list(_KINDS)


def store_nasty(database: Database, kind: str, again: bool = False) -> str:
    """Store the study of that kind, or another one beside it; returns its name."""
    name = f"nasty-{kind}{'-again' if again else ''}"
    _KINDS[kind](database, name)
    return name
