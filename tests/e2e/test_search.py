"""Every sampler, pruner and plan, with several workers on one study."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import Orch
from fault_site import OwnServer, ended, wait_until

from orchestrator.search.pruners import PRUNERS
from orchestrator.search.samplers import SAMPLERS
from orchestrator.storage.rdb_storage import make_rdb_storage

_NEEDS = {"gp": "torch"}
_EIGHT = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
_FINITE = ("--param", "x={choice=[1,2,3]}", "--param", "y={int=[0,4]}")


def cells(whole: dict[str, Any]) -> Counter[str]:
    """How many trials each configuration had, retries aside."""
    return Counter(
        json.dumps(trial["params"], sort_keys=True)
        for trial in whole["trials"]
        if trial["state"] in ("COMPLETE", "PRUNED")
    )


@pytest.mark.parametrize(
    ("sampler", "pruner"), list(zip(cycle(sorted(SAMPLERS)), sorted(PRUNERS), strict=False))
)
def test_every_sampler_and_pruner_runs_with_four_workers(
    orch: Orch, name: str, sampler: str, pruner: str
) -> None:
    package = _NEEDS.get(sampler)
    if package is not None and importlib.util.find_spec(package) is None:
        message = orch.refused(2, "create", name, "--objective", "quadratic", "--sampler", sampler)
        assert f"needs {package}; pip install 'optuna-orchestrator[{sampler}]'" in message
        sampler = "tpe"
    options = list(_FINITE) if sampler == "bruteforce" else []
    options += ["--set", "pruner.upper=60"] if pruner == "threshold" else []
    orch.ok("run", "quadratic", "--study", name, "--sampler", sampler, "--pruner", pruner,
            "--trials", "15", "--workers", "4", *options)  # fmt: skip
    states = orch.report(name)["states"]
    assert states["complete"] + states["pruned"] == 15 and states["failed"] == 0


@pytest.mark.parametrize(
    "options",
    [
        ("tpe", "--set", "sampler.constant_liar=false", "--set", "sampler.n_startup_trials=5"),
        ("tpe", "--set", "sampler.n_startup_trials=5"),
        ("cmaes",),
    ],
)
def test_a_sampler_learns_from_the_trials_of_its_own_worker(
    orch: Orch, name: str, options: tuple[str, ...]
) -> None:
    orch.ok("run", "quadratic", "--study", name, "--trials", "45", "--workers", "1",
            "--pruner", "none", "--sampler", *options)  # fmt: skip
    values = [trial["value"] for trial in orch.report(name)["trials"]]
    assert np.median(values[-15:]) < 25, "random draws have a median near 60"


def test_a_grid_runs_each_cell_once_and_then_ends(orch: Orch, name: str) -> None:
    orch.ok("run", "quadratic", "--study", name, "--sampler", "grid", "--workers", "4", *_FINITE)
    whole = orch.report(name)
    assert whole["budget"] == 15 and whole["pruner"] == "none"
    assert whole["states"]["complete"] == 15, "each cell has its value"
    assert len(cells(whole)) == 15 and set(cells(whole).values()) == {1}


def test_a_grid_runs_each_cell_once_although_workers_are_killed(site: OwnServer) -> None:
    site.create(trials=1000, sampler__name="grid", objective__steps=3, space__x={"choice": _EIGHT})
    shell = site.start("worker", "s", "--processes", "2")
    for trained in (3, 9):
        wait_until(lambda trained=trained: sum(site.trained().values()) >= trained)  # type: ignore[misc]
        site.processes(shell)[0].kill()
    ended(shell)
    site.ok("resume", "s", "--workers", "2")
    whole = site.assert_whole(8, steps=3)
    assert len(cells(whole)) == 8 and set(cells(whole).values()) == {1}


def test_a_grid_with_a_cell_that_always_fails_ends_with_the_others(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "user_objectives:fails_at_two", "--study", name, "--sampler", "grid",
        "--workers", "2", "--param", "x={choice=[1,2,3]}", "--set", "worker.max_retries=1",
    )  # fmt: skip
    states = orch.report(name)["states"]
    assert (states["complete"], states["failed"]) == (2, 1)
    assert "done" in orch.ok("list")


def test_coordinate_search_runs_in_parallel_resumes_and_ends(orch: Orch, name: str) -> None:
    orch.ok("create", name, "--objective", "quadratic", "--sampler", "coordinate",
            "--pruner", "none", "--set", "sampler.points=9")  # fmt: skip
    orch.ok("worker", name, "--processes", "2", "--timeout", "1s")
    orch.ok("resume", name, "--workers", "4")
    whole = orch.report(name)
    assert whole["states"]["complete"] == 9 + 8
    assert whole["best"]["params"] == {"x": 2.5, "y": -2.5}
    assert set(cells(whole).values()) == {1}


def test_enqueued_configurations_go_first_and_keep_their_values(orch: Orch, name: str) -> None:
    orch.ok("create", name, "--objective", "quadratic", "--trials", "3")
    orch.ok("enqueue", name, "--params", "x=1.5, y=2.5", "--params", "{x=-1.0}")
    assert "cannot be 11" in orch.refused(2, "enqueue", name, "--params", "x=11")
    assert "unknown parameter z" in orch.refused(2, "enqueue", name, "--params", "z=1")
    orch.ok("resume", name, "--workers", "1")
    trials = orch.report(name)["trials"]
    assert trials[0]["params"] == {"x": 1.5, "y": 2.5}
    assert trials[1]["params"]["x"] == -1.0 and -10 <= trials[1]["params"]["y"] <= 10


def test_a_study_starts_warm_from_the_best_of_another(orch: Orch, name: str) -> None:
    orch.ok("run", "quadratic", "--study", name, "--trials", "6", "--workers", "2",
            "--pruner", "none")  # fmt: skip
    best = orch.report(name)["best"]["params"]
    warm = f"{name}-warm"
    orch.ok("create", warm, "--objective", "quadratic", "--trials", "2")
    orch.ok("enqueue", warm, "--from", name, "--top", "1")
    orch.ok("resume", warm, "--workers", "1")
    assert orch.report(warm)["trials"][0]["params"] == best


def test_several_metrics_give_a_pareto_front(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "user_objectives:two_metrics", "--study", name, "--trials", "12", "--workers", "2",
        "--sampler", "nsga2", "--metric", "error", "--direction", "minimize",
        "--metric", "size", "--direction", "minimize",
    )  # fmt: skip
    whole = orch.report(name)
    assert whole["metric"] == ["error", "size"] and whole["best"] is None
    values = {trial["number"]: trial["values"] for trial in whole["trials"]}
    for number in whole["pareto"]:
        assert not any(
            other[0] <= values[number][0] and other[1] <= values[number][1]
            for other in values.values() if other != values[number]
        )  # fmt: skip
    assert "Pareto front" in orch.ok("report", name)
    message = orch.refused(
        2, "create", f"{name}x", "--objective", "user_objectives:two_metrics",
        "--metric", "error", "--metric", "size", "--pruner", "hyperband",
    )  # fmt: skip
    assert "cannot be pruned" in message


def test_a_network_of_several_metrics_is_pruned_by_the_second(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "digits", "--study", name, "--trials", "8", "--workers", "2", "--epochs", "3",
        "--metric", "parameters", "--metric", "val_accuracy", "--set", "pruner.name=asha",
        "--set", "pruner.metric=val_accuracy", "--set", "pruner.reduction_factor=2",
    )  # fmt: skip
    whole = orch.report(name)
    assert whole["states"]["complete"] + whole["states"]["pruned"] == 8
    assert whole["states"]["pruned"] > 0 and whole["states"]["failed"] == 0
    by_number = {trial["number"]: trial for trial in whole["trials"]}
    assert all(by_number[number]["state"] == "COMPLETE" for number in whole["pareto"])
    for trial in by_number.values():
        # The parameters of this network are more than 1, and its accuracy is not.
        assert all(0 <= value <= 1 for value in trial["intermediate"].values())
        if trial["state"] == "COMPLETE":
            assert trial["intermediate"]["3"] == trial["values"][1]
    assert "Pareto front" in orch.ok("report", name)


def test_a_network_is_searched_for_accuracy_and_size(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "digits", "--study", name, "--trials", "4", "--workers", "2", "--epochs", "1",
        "--metric", "val_accuracy", "--metric", "parameters",
        "--set", 'study.note="# Small and good"',
    )  # fmt: skip
    whole = orch.report(name)
    assert whole["direction"] == ["maximize", "minimize"] and whole["pareto"]
    assert all(len(trial["values"]) == 2 for trial in whole["trials"])
    header = orch.ok("report", name, "--format", "csv").splitlines()[0]
    assert "value_parameters" in header


def test_the_studys_note_is_shown_by_the_dashboard(orch: Orch, name: str, url: str) -> None:
    import optuna
    from optuna_dashboard._note import get_note_from_system_attrs

    orch.ok("create", name, "--objective", "quadratic", "--set", 'study.note="# The plan"')
    study = optuna.load_study(study_name=name, storage=url.replace("://", "+psycopg2://", 1))
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert get_note_from_system_attrs(attributes, None)["body"] == "# The plan"


def test_the_best_trial_satisfies_the_constraints(orch: Orch, name: str) -> None:
    done = orch(
        "run", "user_objectives:constrained", "--study", name, "--trials", "20", "--workers", "2",
        "--pruner", "none", "--set", 'study.constraints=["too_big"]',
    )  # fmt: skip
    whole = orch.report(name)
    best = whole["trials"][whole["best"]["number"]]
    assert best["feasible"] and best["attributes"]["too_big"] <= 0
    assert any(not trial["feasible"] for trial in whole["trials"])
    named = re.findall(r"best value \S+ \(trial (\d+)", done.stderr)
    assert int(named[-1]) == best["number"], "the progress says the same"


def test_constraints_set_through_optuna_count_in_every_command(
    orch: Orch, name: str, url: str, tmp_path: Path
) -> None:
    done = orch(
        "run", "user_objectives:right_half", "--study", name, "--trials", "25", "--workers", "2",
        "--pruner", "none",
    )  # fmt: skip
    study = optuna.load_study(study_name=name, storage=make_rdb_storage(url))
    best = study.best_trial
    assert best.params["x"] >= 1
    assert best.values[0] > min(trial.values[0] for trial in study.trials)
    assert re.findall(r"best value \S+ \(trial (\d+)", done.stderr)[-1] == str(best.number)
    assert f"Trial {best.number} is the best of 25" in orch.ok("report", name)
    assert orch.report(name)["best"]["number"] == best.number
    assert orch.ok("best", name).startswith(f"trial {best.number}: value ")

    after = f"{name}-after"
    orch.ok("create", after, "--objective", "user_objectives:right_half", "--trials", "1")
    orch.ok("enqueue", after, "--from", name, "--top", "1")
    orch.ok("resume", after, "--workers", "1")
    assert orch.report(after)["trials"][0]["params"] == best.params
    orch.ok("confirm", name, "--top", "1", "--seeds", "2", "--workers", "1")
    again = orch.report(f"{name}-confirm")["trials"]
    assert [trial["params"] for trial in again] == [best.params] * 2

    old = f"sqlite:///{tmp_path / 'old.db'}"
    optuna.copy_study(from_study_name=name, from_storage=make_rdb_storage(url), to_storage=old)
    orch.ok("import", "optuna", old, f"{name}-taken")
    assert orch.report(f"{name}-taken")["best"]["number"] == best.number


def test_a_terminator_ends_the_study_before_its_budget(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "user_objectives:flat", "--study", name, "--trials", "200", "--workers", "2",
        "--pruner", "none", "--set", "terminator.name=stagnation",
        "--set", "terminator.max_stagnation_trials=5", "--set", "terminator.min_n_trials=3",
    )  # fmt: skip
    assert 6 <= orch.report(name)["states"]["complete"] < 40
    assert "no worthwhile gain is expected" in orch.ok("show", name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sampler", "cmaes", "--param", "x={choice=[1,2]}", "--param", "y={choice=[1,2]}"),
         "every parameter of this space is a choice"),
        (("--sampler", "grid"), "x is continuous"),
        (("--sampler", "bruteforce"), "x is continuous"),
        (("--sampler", "grid", *_FINITE, "--set", "sampler.seed=1"), "grid has no options"),
        (("--folds", "3"), "does not train in folds"),
        (("--set", "terminator.name=regrets"), "did you mean 'regret'"),
        (("--set", "pruner.reduction_facto=2"), "did you mean 'reduction_factor'"),
    ],
)  # fmt: skip
def test_contradictory_options_are_refused_with_the_reason(
    orch: Orch, name: str, options: tuple[str, ...], words: str
) -> None:
    assert words in orch.refused(2, "create", name, "--objective", "quadratic", *options)


def test_wilcoxon_needs_folds_or_repeats(orch: Orch, name: str) -> None:
    message = orch.refused(2, "create", name, "--objective", "digits", "--pruner", "wilcoxon")
    assert "--folds or --repeats" in message
