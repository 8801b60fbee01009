"""What TPE itself costs: the time to draw 7 parameters, by the number of finished trials.

    python -m benchmarks.tpe --json

In memory, without storage; and the quality of what is found, for the options that change the cost:
the best value of 100 trials on a 7-dimensional bowl and on Rosenbrock's valley, median of 10 seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import optuna

OPTIONS: dict[str, dict[str, Any]] = {
    "univariate": {},
    "multivariate": {"multivariate": True},
    "multivariate_group": {"multivariate": True, "group": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 1000, 10_000])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    result: dict[str, Any] = {}
    for name, keys in OPTIONS.items():
        result[name] = {
            f"ms_at_{size}": round(_draw_ms(_filled(size, keys)), 2) for size in options.sizes
        }
        for function in (bowl, valley):
            best = [_best(function, keys, seed) for seed in range(options.seeds)]
            result[name][f"best_{function.__name__}"] = round(statistics.median(best), 4)
    print(json.dumps(result, indent=None if options.json else 2))


def bowl(point: list[float]) -> float:
    return sum((x - 0.3) ** 2 for x in point)


def valley(point: list[float]) -> float:
    scaled = [4 * x - 2 for x in point]
    return sum(100 * (y - x * x) ** 2 + (1 - x) ** 2 for x, y in pairwise(scaled))


def _draw(trial: optuna.Trial) -> list[float]:
    return [trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(7)]


def _study(keys: dict[str, Any], seed: int) -> optuna.Study:
    sampler = optuna.samplers.TPESampler(constant_liar=True, seed=seed, **keys)
    return optuna.create_study(sampler=sampler)


def _filled(size: int, keys: dict[str, Any]) -> optuna.Study:
    study = _study(keys, 0)
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    random.optimize(lambda trial: bowl(_draw(trial)), n_trials=size)
    study.add_trials(random.trials)
    return study


def _draw_ms(study: optuna.Study) -> float:
    times = []
    for _ in range(10):
        started = time.perf_counter()
        trial = study.ask()
        value = bowl(_draw(trial))
        times.append((time.perf_counter() - started) * 1000)
        study.tell(trial, value)
    return statistics.median(times)


def _best(function: Callable[[list[float]], float], keys: dict[str, Any], seed: int) -> float:
    study = _study(keys, seed)
    study.optimize(lambda trial: function(_draw(trial)), n_trials=100)
    return study.best_value


if __name__ == "__main__":
    main()
