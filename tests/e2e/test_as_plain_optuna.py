"""Whatever Optuna's users write ends under orch as under plain Optuna, at the same parameters.

Where orch differs on purpose:

* An objective that returns NaN is PRUNED with the reason; plain Optuna makes it FAIL. It would only be
  tried again.
* A number of values other than the study's metrics is wrong use, and stops the study at once.
* A message of ``TrialPruned`` is kept.
* Arrays and scalars of NumPy may be attributes; Optuna takes them in memory alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import plain_objectives
import pytest
from conftest import Orch
from optuna.trial import FrozenTrial

from orchestrator.resolve.queue import queue
from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, delete, open_study, read_trials
from orchestrator.winner.replay import replay
from orchestrator.worker.worker import Worker, WorkerOptions

Configurations = list[dict[str, Any]]


class Both:
    """The same study by plain Optuna and by orch, one trial after the other."""

    def __init__(self, database: Database, name: str) -> None:
        self.database, self.name = database, name
        self.errors: dict[int, BaseException] = {}
        self.plain: list[FrozenTrial] = []
        self.study: StoredStudy | None = None

    def run_plain(
        self,
        objective: Callable[[Any], Any],
        study: optuna.Study,
        queued: Configurations,
        left: int = 0,
    ) -> None:
        """Run what is queued, and as many more, unless the objective stops the study."""

        def noting(trial: optuna.Trial) -> Any:
            try:
                return objective(trial)
            except Exception as error:
                self.errors[trial.number] = error
                raise

        for each in queued:
            study.enqueue_trial(each)
        study.optimize(noting, n_trials=len(queued) + left, catch=(Exception,))
        self.plain = study.trials

    def create(
        self, objective: str, queued: Configurations, left: int = 0, **sections: Any
    ) -> None:
        """Store the study for orch, with a budget for what does not fail, and no retry."""
        failed = sum(trial.state.name == "FAIL" for trial in self.plain)
        trials = len(self.plain) - failed + left
        study = {
            "name": self.name,
            "objective": objective,
            "trials": trials,
            **sections.pop("study", {}),
        }
        worker = {"max_retries": 0, "max_failures": 99}
        self.study = create(
            self.database, StudySpec.parse({"study": study, "worker": worker, **sections})
        )
        queue(self.database, self.study, queued)

    def run_here(self) -> None:
        Worker(self.database.url, self.name, WorkerOptions(uuid4())).run()

    def pairs(self) -> list[tuple[FrozenTrial, FrozenTrial]]:
        assert self.study is not None
        trials = read_trials(self.database, self.study)
        assert len(trials) == len(self.plain)
        return list(zip(self.plain, trials, strict=True))


@pytest.fixture
def both(database: Database, name: str) -> Iterator[Both]:
    made = Both(database, name)
    yield made
    if made.study is not None:
        delete(database, made.study)


def own_attributes(trial: FrozenTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.user_attrs.items() if not key.startswith("orch:")}


def assert_same(both: Both) -> None:
    for plain, ours in both.pairs():
        what = plain.params, ours.user_attrs.get("orch:reason")
        assert ours.state == plain.state, what
        assert ours.params == plain.params, what
        assert ours.distributions == plain.distributions, what
        assert (ours.values or []) == pytest.approx(plain.values or [], rel=1e-5), what
        assert ours.intermediate_values == pytest.approx(
            plain.intermediate_values, rel=1e-5, nan_ok=True
        ), what
        assert own_attributes(ours) == as_json(own_attributes(plain)), what
        assert ours.constraints == plain.constraints, what
        assert scores(ours) == scores(plain), what
        error, reason = both.errors.get(plain.number), ours.user_attrs.get("orch:reason", "")
        if plain.state.name == "FAIL" and error is not None:
            words = " ".join(str(error).split())
            assert reason.startswith(f"{type(error).__name__}: {words}".rstrip(": ")), what
        elif plain.state.name == "FAIL":
            assert "it must return a number" in reason, what


def as_json(value: Any) -> Any:
    """As a storage keeps it: a tuple is a list."""
    return json.loads(json.dumps(value))


def scores(trial: FrozenTrial) -> Any:
    return trial.system_attrs.get("terminator:cv_scores")


@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_objective_ends_as_under_plain_optuna(
    orch: Orch, both: Both, tmp_path: Path
) -> None:
    kinds = plain_objectives.KINDS
    queued = [{"kind": name, **params} for name, (_, params) in kinds.items()]
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    storage = f"sqlite:///{tmp_path}/plain.db"  # in memory, a copy of a trial is another one
    study = optuna.create_study(storage=storage, direction="maximize", pruner=pruner)
    both.run_plain(plain_objectives.objective, study, queued, left=5)
    assert len(both.plain) == len(queued), "the last one has stopped it"
    both.create(
        "plain_objectives:objective", queued, left=5, study={"direction": "maximize"},
        pruner={"name": "median", "n_startup_trials": 1},
    )  # fmt: skip
    done = orch("resume", both.name, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert_same(both)
    states = [trial.state.name for trial in both.plain]
    assert states.count("COMPLETE") > 15 and states.count("PRUNED") >= 4
    assert states.count("FAIL") > 15
    stored = open_study(both.database, both.name)
    trials = read_trials(both.database, stored)
    for trial in trials:
        if trial.state.name == "COMPLETE" or trial.intermediate_values:
            again = replay(stored, trials, trial.number)
            assert again.largest_difference < 1e-5, trial.params
    assert (stored.state, stored.reason) == ("exhausted", "the objective called study.stop()")


@pytest.mark.filterwarnings("ignore")
def test_several_values_with_constraints_end_as_under_plain_optuna(both: Both) -> None:
    queued = [{"x": x, "y": y} for x in (0.0, 2.5, 5.0) for y in (0, 2, 3)]
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0)
    )
    both.run_plain(plain_objectives.cost_and_error, study, queued)
    metrics = {"metric": ["cost", "error"], "direction": ["minimize", "minimize"]}
    both.create(
        "plain_objectives:cost_and_error", queued, study=metrics, sampler={"name": "nsga2"},
        pruner={"name": "none"},
    )  # fmt: skip
    both.run_here()
    assert_same(both)


@pytest.mark.filterwarnings("ignore")
def test_a_lambda_with_cma_es_ends_as_under_plain_optuna(both: Both) -> None:
    queued = [{"a": float(a), "b": a / 2, "c": -1.0} for a in range(-4, 5)]
    study = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=0))
    both.run_plain(plain_objectives.bowl, study, queued)
    both.create("plain_objectives:bowl", queued, sampler={"name": "cmaes"}, pruner={"name": "none"})
    both.run_here()
    assert_same(both)
