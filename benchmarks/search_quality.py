"""How good is what a sampler finds in a budget: mixed-gp beside Optuna's TPE, in simulated time.

    python -m benchmarks.search_quality --json
    python -m benchmarks.search_quality --seeds 3 --workers 4 --tables parkinsons --functions

Asynchronous workers search tables of trained networks, of which the time of each training is known
too, so that no time passes. Every trial asks the sampler that orch's worker would make for it. The
figures, after 25, 50 and 100 finished trials, are the regret of the best value so far as a share of
random search's: the geometric mean over the tables, each at least the floor, with the 90 % interval
of a bootstrap over the seeds. On functions of numbers it is the regret itself, after 25, 40 and 60.

With a prior or an older study, right or wrong, they are those after 10, 25 and 50 trials:

    python -m benchmarks.search_quality --samplers mixed-gp --workers 4 --prior wrong
    python -m benchmarks.search_quality --samplers mixed-gp --workers 4 --warm-start reversed

With a cost, or with none to compare with, they are those after the time that 10, 25 and 50 trials
of mean length take:

    python -m benchmarks.search_quality --samplers mixed-gp --workers 4 --cost seconds
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import optuna

from benchmarks.knowledge import NONE, OLDER, PRIORS, older_trials, with_prior
from benchmarks.problems import DEVELOPMENT, FUNCTIONS, REPORT, Function, problem, table
from benchmarks.searches import run_all
from benchmarks.simulation import Simulation
from orchestrator.search.cost import COSTS
from orchestrator.search.samplers import WEIGHING_COSTS
from orchestrator.spec.model import StudySpec

FLOORS = (0.05, 0.01, 0.001, 1e-6)
_TABLE_TRIALS = (25, 50, 100)
_FUNCTION_TRIALS = (25, 40, 60)
_INFORMED_TRIALS = (10, 25, 50)  # what is known, or saved, shows early
_MOST_TIMES = 3  # as many trials of a study that has its time, if they are short
_BOOTSTRAPS = 2000


class Job(NamedTuple):
    """One study of the benchmark."""

    problem: str
    sampler: str
    seed: int
    workers: int
    one_repeat: bool
    prior: str | None
    warm_start: str | None
    cost: str | None


class Run(NamedTuple):
    """What it found: the regret after the numbers of trials, and the CPU time of the sampler."""

    job: Job
    regrets: list[float]
    seconds: float


def main() -> int:
    options = _options()
    jobs = list(_jobs(options))
    runs = run_all(run, jobs, options.processes)
    result = {
        "seeds": options.seeds,
        "tables": _tables(runs, options),
        "functions": _functions(runs, options),
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--tables", nargs="*", choices=[*DEVELOPMENT, *REPORT], metavar="NAME")
    parser.add_argument(
        "--functions", nargs="*", default=list(FUNCTIONS), choices=FUNCTIONS, metavar="NAME"
    )
    parser.add_argument(
        "--samplers", nargs="+", default=["mixed-gp", "tpe"], help="names of orch's samplers"
    )
    parser.add_argument("--one-repeat", action="store_true", help="a trial draws one repeat")
    parser.add_argument(
        "--prior", choices=PRIORS, help="with a guess of the best; none, to compare with"
    )
    parser.add_argument(
        "--warm-start", choices=OLDER, help="with an older study; none, to compare with"
    )
    parser.add_argument(
        "--cost",
        choices=[NONE, *COSTS],
        help="what mixed-gp and auto divide the expected gain by; figures at equal time",
    )
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.tables is None:
        options.tables = list(DEVELOPMENT if _is_informed(options) else REPORT)
    if _is_informed(options) and not set(options.tables) <= set(DEVELOPMENT):
        names = ", ".join(DEVELOPMENT)
        parser.error(f"priors, older studies and costs are for the tables {names}")
    return options


def _is_informed(known: argparse.Namespace | Job) -> bool:
    return not (known.prior is None and known.warm_start is None and known.cost is None)


def _table_trials(known: argparse.Namespace | Job) -> tuple[int, ...]:
    return _INFORMED_TRIALS if _is_informed(known) else _TABLE_TRIALS


def _function_trials(known: argparse.Namespace | Job) -> tuple[int, ...]:
    return _INFORMED_TRIALS if _is_informed(known) else _FUNCTION_TRIALS


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for name in (*options.tables, *options.functions):
        for workers in options.workers:
            for sampler in options.samplers:
                for seed in seeds:
                    known = (options.prior, options.warm_start, options.cost)
                    yield Job(name, sampler, seed, workers, options.one_repeat, *known)


def run(job: Job) -> Run:
    """Search one problem, as its workers would with a database between them."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    searched = problem(job.problem)
    trials = _function_trials(job) if isinstance(searched, Function) else _table_trials(job)
    weighs = job.cost not in (None, NONE) and job.sampler in WEIGHING_COSTS
    spec = StudySpec.parse(
        {
            "study": {"name": "benchmark", "objective": "quadratic", "trials": trials[-1]},
            "sampler": {"name": job.sampler, **({"cost": job.cost} if weighs else {})},
            "training": {"seed": job.seed},
            "space": with_prior(job.problem, job.prior or NONE, job.seed),
        }
    )
    older = older_trials(job.problem, job.warm_start or NONE, job.seed)
    simulation = Simulation(searched, spec, job.workers, older, one_repeat=job.one_repeat)
    if job.cost is None:
        simulation.run(trials[-1])
        regrets = [simulation.curve[count - 1].regret for count in trials]
    else:
        times = [simulation.mean_time(count) for count in trials]
        simulation.run(_MOST_TIMES * trials[-1], times[-1])
        regrets = [simulation.regret_at(seconds) for seconds in times]
    return Run(job, regrets, simulation.drawing_seconds)


def _tables(runs: list[Run], options: argparse.Namespace) -> list[dict[str, Any]]:
    if not options.tables:
        return []
    return [
        _figures([each for each in runs if _is_of(each, sampler, workers, options.tables)], options)
        for workers in options.workers
        for sampler in options.samplers
    ]


def _is_of(each: Run, sampler: str, workers: int, problems: list[str]) -> bool:
    job = each.job
    return job.sampler == sampler and job.workers == workers and job.problem in problems


def _figures(runs: list[Run], options: argparse.Namespace) -> dict[str, Any]:
    """One sampler's figures over all tables."""
    ratios = {name: _ratios(runs, name, options) for name in options.tables}
    shares = _shares(options.tables)
    low, high = _interval(ratios, shares)
    return {
        "sampler": runs[0].job.sampler,
        "workers": runs[0].job.workers,
        "at": list(_table_trials(options)),
        "figures": {
            str(floor): _rounded(
                _mean_ratio({n: r.mean(0) for n, r in ratios.items()}, shares, floor)
            )
            for floor in FLOORS
        },
        "interval_90": [_rounded(low), _rounded(high)],
        "by_table": {name: _rounded(each.mean(axis=0)) for name, each in ratios.items()},
        "found": {name: int((each[:, -1] <= 1e-9).sum()) for name, each in ratios.items()},
        "cpu_seconds": round(float(np.mean([each.seconds for each in runs])), 2),
    }


def _ratios(runs: list[Run], name: str, options: argparse.Namespace) -> Any:
    """Regrets as shares of random search's: a row for each seed."""
    trials = _table_trials(options)
    regrets = np.array([each.regrets for each in runs if each.job.problem == name])
    of_random = table(name).random_regret(trials[-1], options.one_repeat)
    return regrets / of_random[[count - 1 for count in trials]]


def _shares(names: list[str]) -> dict[str, float]:
    """The weight of each table: tables for development have their families as 3 : 2 : 2."""
    if not set(names) <= set(DEVELOPMENT):
        return {name: 1 / len(names) for name in names}
    family = {name: DEVELOPMENT[name][0] for name in names}
    weight = {"hpolib": 3.0, "hpobench": 2.0, "nasbench201": 2.0}
    total = sum(weight[each] for each in set(family.values()))
    sizes = {each: list(family.values()).count(each) for each in family.values()}
    return {name: weight[each] / total / sizes[each] for name, each in family.items()}


def _mean_ratio(ratios: dict[str, Any], shares: dict[str, float], floor: float) -> Any:
    logs = [shares[name] * np.log(np.maximum(each, floor)) for name, each in ratios.items()]
    return np.exp(np.sum(logs, axis=0))


def _interval(ratios: dict[str, Any], shares: dict[str, float]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    drawn = [
        _mean_ratio(
            {n: r[rng.integers(len(r), size=len(r))].mean(axis=0) for n, r in ratios.items()},
            shares,
            0.01,
        )
        for _ in range(_BOOTSTRAPS)
    ]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    return low, high


def _functions(runs: list[Run], options: argparse.Namespace) -> list[dict[str, Any]]:
    trials = _function_trials(options)
    return [
        {"function": name, "sampler": sampler, "workers": workers, "at": list(trials)}
        | _regrets([each for each in runs if _is_of(each, sampler, workers, [name])])
        for name in options.functions
        for workers in options.workers
        for sampler in options.samplers
    ]


def _regrets(runs: list[Run]) -> dict[str, Any]:
    regrets = np.array([each.regrets for each in runs])
    return {
        "mean": _rounded(regrets.mean(axis=0)),
        "median": _rounded(np.median(regrets, axis=0)),
        "cpu_seconds": round(float(np.mean([each.seconds for each in runs])), 2),
    }


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


if __name__ == "__main__":
    sys.exit(main())
