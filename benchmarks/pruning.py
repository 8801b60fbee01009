"""How many epochs until a good model: samplers with pruners, replayed on learning curves.

    python -m benchmarks.pruning --json
    python -m benchmarks.pruning --problems cnn --methods tpe/hyperband auto/asha:min_resource=3
    python -m benchmarks.pruning --seeds 5 --problems hartmann6-slow --methods mixed-gp/asha

Asynchronous workers search in simulated time. A method is a sampler and a pruner of orch, made by
the code that makes them for a worker (``auto/asha:promote`` pauses and promotes), or
``kerastuner``: the oracle of KerasTuner's own Hyperband.
What ``auto`` chooses is that for long trials. The figures are how far the best reported value is
from the best final one after some numbers of epochs of all workers together; on recorded curves
(``benchmarks.learning_curves``) also the epochs until a value is reported that only one
configuration in 10, 20 and 50 ends with. A ratio is that of the mean epochs, with the 90 %
interval of a bootstrap over the seeds; a search that has not come so far counts as its budget.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import tempfile
import time
from collections.abc import Callable, Container
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from benchmarks.pruning_problems import MadeUp, Recorded, Training, pruning_problem
from benchmarks.searches import run_all
from orchestrator.base.facts import BRACKET, PAUSED, ROUND, SECONDS
from orchestrator.base.optuna_internals import copy_trial
from orchestrator.search.auto import AUTO, choose
from orchestrator.search.plans import build_plan
from orchestrator.search.plans.plan import Plan
from orchestrator.search.plans.rounds import Rounds, build_rounds, end_of_round, promotes
from orchestrator.search.pruners import build_pruner
from orchestrator.search.samplers import build_sampler
from orchestrator.spec.model import StudySpec
from orchestrator.worker.seeds import derive

KERASTUNER = "kerastuner"
METHODS = (
    "tpe/hyperband", KERASTUNER, "random/hyperband", "tpe/asha", "tpe/median", "tpe/none",
    "random/hyperband:promote", "random/asha:promote", "auto/hyperband", "auto/hyperband:promote",
    "auto/asha", "auto/asha:promote", "auto/auto", "auto/none",
)  # fmt: skip
COMPARED_WITH = ("tpe/hyperband", KERASTUNER)
TOP_SHARES = (0.1, 0.05, 0.02)  # of the configurations
_AT = (50, 100, 200, 300)
_BOOTSTRAPS = 2000


class Job(NamedTuple):
    """One search of the benchmark."""

    problem: str
    method: str
    seed: int
    workers: int
    epochs: int


class Run(NamedTuple):
    """What it found: the best value after each epoch, and the CPU time that it took."""

    job: Job
    best: list[float]
    trials: int
    seconds: float


def main() -> int:
    options = _options()
    jobs = [
        Job(problem, method, seed, options.workers, options.epochs)
        for problem in options.problems
        for method in options.methods
        for seed in range(options.first_seed, options.first_seed + options.seeds)
    ]
    runs = run_all(run, jobs, options.processes)
    result = {
        "seeds": options.seeds,
        "problems": {name: _figures(name, runs, options) for name in options.problems},
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=300, help="of a search")
    parser.add_argument("--problems", nargs="+", default=["mnist"], metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="SAMPLER/PRUNER")
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


def run(job: Job) -> Run:
    """Search one problem."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem, began = pruning_problem(job.problem, job.seed), time.process_time()
    search: OrchSearch | KerasTunerSearch
    if job.method == KERASTUNER:
        assert isinstance(problem, Recorded)
        search = KerasTunerSearch(problem, job)
    else:
        search = OrchSearch(problem, job)
    best, highest = list[float](), -np.inf
    running: list[tuple[float, int, Running]] = []
    idle, begun, now = job.workers, 0, 0.0
    while len(best) < job.epochs:
        while idle and (each := search.start()):
            begun += 1
            idle -= 1
            heapq.heappush(running, (now + each.training.seconds, begun, each))
        now, order, each = heapq.heappop(running)
        each.epoch += 1
        value = float(each.training.curve[each.epoch - 1])
        highest = max(highest, value)
        best.append(highest)
        if search.report(each, value):
            heapq.heappush(running, (now + each.training.seconds, order, each))
        else:
            idle += 1
    return Run(job, best, search.trials, time.process_time() - began)


class Running:
    """A trial, as far as it has come.

    Attributes:
        trial: Optuna's or KerasTuner's.
        training: what it goes through.
        epoch: the last one.
    """

    def __init__(self, trial: Any, training: Training, epoch: int = 0) -> None:
        self.trial, self.training, self.epoch = trial, training, epoch


class OrchSearch:
    """A sampler and a pruner of orch."""

    def __init__(self, problem: Recorded | MadeUp, job: Job) -> None:
        sampler = job.method.partition("/")[0]
        self._problem, self._seed = problem, job.seed
        self._spec = StudySpec.parse(
            {
                "study": {
                    "name": "benchmark",
                    "objective": "quadratic",
                    "direction": "maximize",
                    "trials": 10_000,
                },
                "sampler": {"name": sampler},
                "pruner": pruner_section(job.method),
                "training": {"seed": job.seed},
            }
        )
        # Hyperband's brackets follow from the study's name.
        self._storage = Storage()
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=f"benchmark-{job.seed}",
            direction="maximize",
            pruner=build_pruner(self._spec, problem.epochs),
        )
        self._promotion = None
        if promotes(self._spec):
            plan = build_plan(self._spec, {}, lambda *_: True, problem.epochs)
            rounds = build_rounds(self._spec, problem.epochs)
            assert plan is not None and rounds is not None
            self._promotion = Promotion(self._study, self._storage, plan, rounds)

    @property
    def trials(self) -> int:
        """How many have begun."""
        return len(self._study.get_trials(deepcopy=False))

    def start(self) -> Running | None:
        """The next trial, which may have been promoted; None: it waits for those that run."""
        return self._ask() if self._promotion is None else self._promotion.start(self._ask)

    def _ask(self) -> Running:
        number = self.trials
        chosen = None
        if self._spec.sampler.name == AUTO:
            chosen = choose(self._spec, number, [*map(_long, self._study.trials)]).sampler
        seed = derive(self._seed, "sampler", number)
        self._study.sampler = build_sampler(self._spec, seed, chosen=chosen)
        return Running(*self._problem.draw(self._study))

    def report(self, running: Running, value: float) -> bool:
        """Report an epoch's value; whether the trial goes on."""
        trial: optuna.Trial = running.trial
        trial.report(value, running.epoch)
        if running.epoch == self._problem.epochs:
            self._study.tell(trial, value)
        elif self._promotion is not None:
            return not self._promotion.pauses(running)
        elif trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            return True
        return False


class Storage(optuna.storages.InMemoryStorage):
    """Shows the facts about promotion as orch stores them.

    Attributes:
        facts: the system attributes of each trial, by its number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[int, dict[str, Any]] = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those of a study; a paused one is waiting, but not to be asked for."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        return trials if states == (TrialState.WAITING,) else [*map(self._as_stored, trials)]

    def _as_stored(self, trial: FrozenTrial) -> FrozenTrial:
        facts = self.facts.get(trial.number)
        if facts is None:
            return trial
        stored = copy_trial(trial, trial.user_attrs, {**trial.system_attrs, **facts})
        if PAUSED in facts:
            stored.state = TrialState.WAITING
        return stored


class Promotion:
    """What orch's workers do in a study that promotes.

    Args:
        study: the study.
        storage: its.
        plan: says who goes on.
        rounds: when trials are paused.
    """

    def __init__(self, study: optuna.Study, storage: Storage, plan: Plan, rounds: Rounds) -> None:
        self._study, self._facts, self._plan, self._rounds = study, storage.facts, plan, rounds
        self._queued: list[dict[str, Any]] = []
        self._promoted: list[Running] = []
        self._paused: dict[int, Running] = {}

    def start(self, ask: Callable[[], Running]) -> Running | None:
        """The next trial: one that was promoted, or a new one."""
        while not self._promoted and not self._queued:
            step = self._plan.step(self._trials(), budget=10_000)
            if not step:
                return None
            self._queued += [facts for _, facts in step.queue]
            for number in step.promote:
                facts = self._facts[number]
                self._facts[number] = {BRACKET: facts[BRACKET], ROUND: facts[ROUND] + 1}
                self._promoted.append(self._paused.pop(number))
            for number in step.prune:
                del self._facts[number][PAUSED]
                self._study.tell(self._paused.pop(number).trial, state=TrialState.PRUNED)
        if self._promoted:
            return self._promoted.pop(0)
        running, facts = ask(), self._queued.pop(0)
        self._facts[running.trial.number] = facts
        return running

    def pauses(self, running: Running) -> bool:
        """Whether a trial has come to the end of its round."""
        number = running.trial.number
        seen = next(each for each in self._trials() if each.number == number)
        if end_of_round(seen, self._rounds) != running.epoch:
            return False
        self._facts[number] = {**self._facts[number], PAUSED: True}
        self._paused[number] = running
        return True

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)  # a trial's id is its number here


def pruner_section(method: str) -> dict[str, Any]:
    """The spec's ``[pruner]`` of, e.g., ``auto/hyperband:promote:reduction_factor=4``."""
    name, *options = method.partition("/")[2].split(":")
    pairs = (each.partition("=") for each in options)
    return {"name": name, **{key: int(value) if value else True for key, _, value in pairs}}


def _long(trial: FrozenTrial) -> FrozenTrial:
    """The trial as one that took an hour: real ones take longer than their suggestion."""
    longer = copy_trial(trial, {SECONDS: 3600.0}, trial.system_attrs)
    if trial.datetime_start is not None and trial.state.is_finished():
        longer.datetime_complete = trial.datetime_start + timedelta(hours=1)
    return longer


class KerasTunerSearch:
    """KerasTuner's own Hyperband, without its training."""

    def __init__(self, problem: Recorded, job: Job) -> None:
        import keras_tuner
        from keras_tuner.oracles import HyperbandOracle

        space = keras_tuner.HyperParameters()
        for name, each in problem.space.items():
            _register(space, name, each)
        self._problem = problem
        self._trainings: dict[str, Training] = {}
        self._oracle = HyperbandOracle(
            objective=keras_tuner.Objective("value", "max"),
            max_epochs=problem.epochs,
            hyperband_iterations=1000,
            seed=job.seed + 1,
            hyperparameters=space,
        )
        self._oracle.verbose = 0
        self._folder = tempfile.TemporaryDirectory(prefix="orch-benchmark-")
        self._oracle._set_project_dir(self._folder.name, "search")
        self._asked = 0

    @property
    def trials(self) -> int:
        """How many configurations have begun."""
        return len({each.name for each in self._trainings.values()})

    def start(self) -> Running | None:
        """The next trial; None: it waits for those that run."""
        self._asked += 1
        trial = self._oracle.create_trial(f"worker-{self._asked}")
        if trial.status != "RUNNING":
            return None
        values = trial.hyperparameters.values
        before = values.get("tuner/trial_id")
        if before is None:
            own = {name: values[name] for name in self._problem.space}
            training = self._problem.train(own)
        else:
            training = self._trainings[before]
        self._trainings[trial.trial_id] = training
        return Running(trial, training, values["tuner/initial_epoch"])

    def report(self, running: Running, value: float) -> bool:
        """Report an epoch's value; whether the trial goes on."""
        trial = running.trial
        self._oracle.update_trial(trial.trial_id, {"value": value}, step=running.epoch)
        if running.epoch < trial.hyperparameters.values["tuner/epochs"]:
            return True
        trial.status = "COMPLETED"
        self._oracle.end_trial(trial)
        return False


def _register(space: Any, name: str, distribution: BaseDistribution) -> None:
    """A parameter as KerasTuner knows it."""
    match distribution:
        case CategoricalDistribution():
            space.Choice(name, list(distribution.choices))
        case IntDistribution():
            space.Int(name, distribution.low, distribution.high, step=distribution.step)
        case FloatDistribution():
            sampling = "log" if distribution.log else "linear"
            space.Float(name, distribution.low, distribution.high, sampling=sampling)


def _figures(name: str, runs: list[Run], options: argparse.Namespace) -> dict[str, Any]:
    """One problem's figures, by method."""
    problem = pruning_problem(name, 0)
    of = {
        method: [each for each in runs if each.job.problem == name and each.job.method == method]
        for method in options.methods
    }
    at = [each for each in _AT if each <= options.epochs]
    figures: dict[str, Any] = {"best": problem.best, "at": at}
    targets = problem.targets(TOP_SHARES) if isinstance(problem, Recorded) else []
    reached = {method: _reached(each, targets) for method, each in of.items()}
    figures["targets"] = [round(each, 5) for each in targets]
    figures["methods"] = {
        method: {
            "regret": _rounded(_regrets(each, problem.best, at).mean(axis=0)),
            "epochs": _rounded(reached[method].mean(axis=0)),
            **{
                f"of {other}": _ratios(reached[method], reached[other])
                for other in COMPARED_WITH
                if other in of and targets
            },
            "trials": round(float(np.mean([each.trials for each in each])), 1),
            "cpu_seconds": round(float(np.mean([each.seconds for each in each])), 2),
        }
        for method, each in of.items()
    }
    return figures


def _regrets(runs: list[Run], best: float, at: list[int]) -> Any:
    found = np.array([[each.best[epochs - 1] for epochs in at] for each in runs])
    return np.maximum(best - found, 0.0)


def _reached(runs: list[Run], targets: list[float]) -> Any:
    """After how many epochs each search had each target."""
    return np.array(
        [[1 + int(np.searchsorted(each.best, target)) for target in targets] for each in runs]
    ).reshape(len(runs), len(targets))


def _ratios(ours: Any, theirs: Any) -> list[list[float]]:
    """The ratio of the mean epochs to each target, with its 90 % interval."""
    rng = np.random.default_rng(0)
    drawn = [_resampled(ours, rng) / _resampled(theirs, rng) for _ in range(_BOOTSTRAPS)]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    ratio = ours.mean(axis=0) / theirs.mean(axis=0)
    return [_rounded(each) for each in zip(ratio, low, high, strict=True)]


def _resampled(rows: Any, rng: np.random.Generator) -> Any:
    return rows[rng.integers(len(rows), size=len(rows))].mean(axis=0)


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.3g}") for value in values]


if __name__ == "__main__":
    sys.exit(main())
