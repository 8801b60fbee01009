"""A study in a script: created, run, read and removed from Python."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import Orch

import orchestrator as orch_api
from orchestrator import NoSuchStudy, OrchError, Study, StudyFailed, UsageError, create_study
from orchestrator.objective import Trial

HEAVY = {"tensorflow", "keras", "optuna", "psycopg2", "sqlalchemy", "numpy", "pydantic"}


def bowl(trial: optuna.Trial) -> float:
    return (trial.suggest_float("x", -5, 5) - 2) ** 2


def test_importing_the_package_loads_no_heavy_library_and_offers_all_its_names() -> None:
    code = (
        "import sys, orchestrator\n"
        f"assert not {HEAVY!r} & set(sys.modules), sorted({HEAVY!r} & set(sys.modules))\n"
        "for name in orchestrator.__all__: getattr(orchestrator, name)\n"
        "assert set(orchestrator.__all__) <= set(dir(orchestrator))\n"
        "assert orchestrator.__version__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _public() -> list[Any]:
    from orchestrator import doctor, launch, server, workers

    found: list[Any] = [getattr(orch_api, name) for name in orch_api.__all__]
    for module in (doctor, launch, server, workers):
        found += [getattr(module, name) for name in module.__all__]
    for kind in (Study, launch.Launcher):
        found += [
            getattr(value, "fget", value)
            for name, value in vars(kind).items()
            if not name.startswith("_") and (callable(value) or isinstance(value, property))
        ]
    return found


def test_every_public_function_is_documented_with_an_example_and_its_errors() -> None:
    internal = {"submit", "planned", "rescale"}
    for each in _public():
        if isinstance(each, type) or each.__name__ in internal:
            assert each.__doc__, each
            continue
        assert "Example:" in each.__doc__, each
        hints = dict(each.__annotations__)
        assert "return" in hints, each


@pytest.fixture
def made(url: str, name: str) -> Callable[..., Study]:
    def make(objective: Any = bowl, **keywords: Any) -> Study:
        settings = {"trials": 4, "pruner": "none", "sampler": "random", **keywords}
        return create_study(name, objective, storage=url, **settings)

    return make


def test_a_study_runs_and_its_results_are_read(made: Callable[..., Study], tmp_path: Path) -> None:
    told: list[int] = []
    study = made()
    threads = set(threading.enumerate())
    returned = study.run(
        workers=2, progress=False, on_trial=lambda trial: told.append(trial.number)
    )
    assert returned is study and study.state == "done"
    assert not set(threading.enumerate()) - threads
    assert sorted(told) == [0, 1, 2, 3] == [trial.number for trial in study.trials]
    assert study.best.value == min(trial.values[0] for trial in study.trials)
    assert study.best_trials(2)[0].number == study.best.number
    assert str(study.best_trials(2)).startswith(f"trial {study.best.number}: value ")
    assert study.to_dataframe()["value_value"].min() == study.best.value
    assert "4 complete" in study.report() and "4 complete" in str(study.summary())
    assert study.report(tmp_path / "report.html").startswith("<!doctype html>")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert "x" in study.search_space() and "-5 to 5" in str(study.search_space())
    with pytest.raises(UsageError, match="says no format"):
        study.report(tmp_path / "report.docx")
    study.add_budget(2)
    study.set_budget(8)
    assert study.enqueue({"x": 2.0}) == 1 and study.spec.study.trials == 8
    with pytest.raises(UsageError, match="far"):
        study.enqueue({"x": "far"})
    study.run(workers=1, progress=False)
    assert study.best.params == {"x": 2.0} and len(study.trials) == 8
    study.delete()
    with pytest.raises(NoSuchStudy):
        study.run(workers=1)


def test_the_trials_of_zero_workers_run_in_this_process(made: Callable[..., Study]) -> None:
    seen, told, lock = [], [], threading.Lock()

    def collects(trial: optuna.Trial) -> float:
        with lock:  # it cannot be pickled, and need not be
            seen.append((threading.current_thread(), trial.number))
        return bowl(trial)

    made(collects).run(workers=0, progress=False, on_trial=lambda t: told.append(t.number))
    assert seen == [(threading.current_thread(), number) for number in range(4)]
    assert sorted(told) == [0, 1, 2, 3]


def test_an_interrupt_with_zero_workers_releases_the_trial(made: Callable[..., Study]) -> None:
    interrupted: list[int] = []

    def interrupts_once(trial: optuna.Trial) -> float:
        if trial.number == 1 and not interrupted:
            interrupted.append(trial.number)
            raise KeyboardInterrupt
        return bowl(trial)

    study = made(interrupts_once)
    with pytest.raises(KeyboardInterrupt):
        study.run(workers=0, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "WAITING"]
    study.run(workers=0, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4, "no attempt was lost"


def test_a_closure_and_a_lambda_run_in_worker_processes(made: Callable[..., Study]) -> None:
    data = np.arange(100_000, dtype=np.float64)  # more than a pipe holds

    def closes_over(trial: optuna.Trial) -> float:
        return bowl(trial) + float(data[-1])

    study = made(closes_over)
    study.run(workers=2, progress=False)
    assert study.best.value >= data[-1]
    assert "<locals>.closes_over" in study.spec.study.objective
    study.delete()
    made(lambda trial: trial.suggest_int("n", 3, 3)).run(workers=1, progress=False)


def test_an_objective_that_cannot_be_pickled_is_named_and_nothing_changes(
    made: Callable[..., Study],
) -> None:
    lock = threading.Lock()

    def holds(trial: optuna.Trial) -> float:
        with lock:
            return bowl(trial)

    def deeper(trial: optuna.Trial) -> float:
        return holds(trial)

    study = made(deeper)
    study.stop()
    with pytest.raises(UsageError, match=r"its variable 'lock' \(lock\) cannot be pickled"):
        study.run(workers=1)
    assert study.state == "stopping"


def test_a_large_closure_warns_once(made: Callable[..., Study]) -> None:
    large = np.zeros(9 * 1024**2)

    def holds(trial: optuna.Trial) -> float:
        return bowl(trial) + float(large[0])

    with pytest.warns(UserWarning, match="holds 72 MiB.*data=") as warned:
        made(holds, trials=1).run(workers=1, progress=False)
    assert len(warned) == 1


def test_another_process_needs_the_function_to_run_the_study(
    made: Callable[..., Study], orch: Orch, url: str, name: str
) -> None:
    made(lambda trial: 1.0).close()
    for verb in ("worker", "resume"):
        line = orch.refused(2, verb, name, "--storage", url)
        assert "part of a notebook or script" in line and "move it into a module" in line
    with pytest.raises(UsageError, match="part of a notebook or script"):
        orch_api.load_study(name, storage=url).run(workers=1)
    handed = orch_api.load_study(name, storage=url, objective=lambda trial: 1.0)
    with pytest.raises(StudyFailed, match="the objective's source differs"):
        handed.run(workers=1)
    handed.run(workers=1, allow_mismatch=True, progress=False)
    assert handed.state == "done" and handed.summary().mismatches


def test_a_changed_function_is_named_and_can_be_accepted(made: Callable[..., Study]) -> None:
    def objective(trial: optuna.Trial) -> float:
        return bowl(trial)

    study = made(objective)
    study.run(workers=0, progress=False)

    def changed(trial: optuna.Trial) -> float:
        return bowl(trial) + 1

    changed.__qualname__ = objective.__qualname__
    changed.__module__ = objective.__module__
    with pytest.raises(StudyFailed, match="the objective's source differs"):
        made(changed, trials=6)
    with pytest.raises(UsageError, match=r"sampler\.name: .*random.* -> .*tpe"):
        made(objective, sampler="tpe")
    with pytest.raises(UsageError, match=r"exists with another spec \(study\.direction"):
        made(changed, trials=6, direction="maximize", allow_mismatch=True)
    taken = made(changed, trials=6, sampler="tpe", allow_mismatch=True)
    taken.run(workers=0, progress=False)
    assert taken.spec.sampler.name == "tpe" and len(taken.trials) == 6
    made(changed, trials=6, sampler="tpe").close()
    with pytest.raises(UsageError, match="exists already"):
        made(changed, trials=6, sampler="tpe", resume=False)


class Shifted(orch_api.Objective):
    """An objective as an object: what it was made with stays."""

    default_metric = "loss"

    def __init__(self, shift: float) -> None:
        from orchestrator.objective import Settings

        super().__init__(Settings())
        self.shift = shift

    def space(self) -> dict[str, Any]:
        return {"x": optuna.distributions.FloatDistribution(-5, 5)}

    def __call__(self, trial: Trial) -> float:
        return float((trial.params["x"] - self.shift) ** 2 + self.settings.epochs)


def test_an_objective_may_be_an_object(made: Callable[..., Study]) -> None:
    study = made(Shifted(3.0), epochs=7)
    study.run(workers=1, progress=False)
    assert study.best.value == pytest.approx((study.best.params["x"] - 3) ** 2 + 7)
    assert study.spec.study.metrics == ("loss",)


def test_every_table_of_the_spec_is_a_keyword(made: Callable[..., Study]) -> None:
    spec = made(
        "quadratic",
        sampler={"name": "tpe", "n_startup_trials": 3},
        worker={"grace_seconds": 30},
        options={"sleep": 0.0},
        space={"x": {"float": [0.0, 1.0]}},
        training={"repeats": 1},
        seed=7,
        timeout="2h",
        note="a note",
    ).spec
    assert spec.sampler.options == {"n_startup_trials": 3} and spec.worker.grace_seconds == 30
    assert spec.training.seed == 7 and spec.study.timeout == 7200
    with pytest.raises(UsageError, match=r"unknown key worker\.grace_second; did you mean"):
        made("quadratic", worker={"grace_second": 3})
    with pytest.raises(UsageError, match="sampler must be a table"):
        made("quadratic", sampler=3)
    with pytest.raises(UsageError, match="is not a valid objective"):
        made(3)


def test_a_failed_study_raises_and_keeps_its_report(made: Callable[..., Study]) -> None:
    def fails(trial: optuna.Trial) -> float:
        raise ValueError(f"no {trial.number}")

    study = made(fails, worker={"max_retries": 0, "max_failures": 1})
    with pytest.raises(StudyFailed, match="failed: "):
        study.run(workers=1, progress=False)
    assert study.state == "failed" and "ValueError" in study.report()
    with pytest.raises(OrchError, match="no complete, feasible trial yet"):
        _ = study.best


def test_studies_are_listed_compared_and_closed(made: Callable[..., Study], url: str) -> None:
    with made("quadratic", trials=2) as study:
        study.run(workers=1, progress=False)
        found = {each.name: each for each in orch_api.list_studies(storage=url)}[study.name]
        assert (found.state, found.done, found.budget) == ("done", 2, 2)
        assert study.name in str(orch_api.list_studies(storage=url))
        assert study.name in str(orch_api.compare(study, study.name, storage=url))
        assert "secret" not in repr(study) and study.name in repr(study)
    assert study.best.number in (0, 1), "what is called after close opens a new connection"
