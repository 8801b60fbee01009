"""Whatever ends an objective's process, or starts another in it, the study ends as it should."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import optuna
import pytest
from conftest import Orch
from fault_site import ended, wait_until

from orchestrator.storage.database import Database
from orchestrator.storage.rdb_storage import make_rdb_storage as rdb_storage


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("exits", "SystemExit: 0"),
        ("exits_with_words", "SystemExit: these hyperparameters make no sense"),
        ("is_cancelled", "CancelledError"),
        ("closes_a_generator", "GeneratorExit: closed"),
        ("ends_its_process", "its worker process ended with exit code 0 during the trial"),
        (
            "ends_its_process_as_if_wrongly_used",
            "its worker process ended with exit code 2 during the trial",
        ),
    ],
)
def test_a_process_that_exits_during_a_trial_fails_that_attempt(
    orch: Orch, url: str, name: str, objective: str, reason: str
) -> None:
    orch.ok(
        "create", name, "--objective", f"leaving_objectives:{objective}", "--trials", "4",
        "--sampler", "random", "--set", "worker.max_retries=1",
    )  # fmt: skip
    for x in (0.1, 0.8):
        orch.ok("enqueue", name, "--params", f"x={x}")
    done = orch("resume", name, "--workers", "2", timeout=120)
    assert done.returncode == 0, done.stderr
    trials = optuna.load_study(study_name=name, storage=rdb_storage(url)).trials
    assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 4, "FAIL": 2}
    # A first attempt and one retry, and another configuration in its place.
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert all(trial.system_attrs["fixed_params"] == {"x": 0.1} for trial in failed)
    assert all(reason in trial.user_attrs["orch:reason"] for trial in failed), failed


def test_reports_and_attributes_of_a_forked_child_arrive(orch: Orch, url: str, name: str) -> None:
    orch.ok(
        "run", "leaving_objectives:reports_from_a_child", "--study", name, "--trials", "2",
        "--workers", "1", "--pruner", "none", timeout=60,
    )  # fmt: skip
    for trial in optuna.load_study(study_name=name, storage=rdb_storage(url)).trials:
        x = trial.params["x"]
        assert trial.intermediate_values == pytest.approx({0: x, 1: x + 1, 2: x + 2})
        assert trial.user_attrs["trained in"] == "a child" and trial.value == x
        assert _losses(url, trial) == {0: x, 1: x - 1, 2: x - 2}


def test_a_pickled_trial_reports_from_another_process(orch: Orch, url: str, name: str) -> None:
    orch.ok(
        "run", "leaving_objectives:reports_from_a_spawned_child", "--study", name, "--trials", "1",
        "--workers", "1", "--pruner", "none", timeout=60,
    )  # fmt: skip
    (trial,) = optuna.load_study(study_name=name, storage=rdb_storage(url)).trials
    assert trial.intermediate_values == {5: 0.5} and _losses(url, trial) == {5: 0.25}


def _losses(url: str, trial: optuna.trial.FrozenTrial) -> dict[int, float]:
    """What the trial has logged as its loss, by step."""
    query = "SELECT step, numbers FROM orch.logged WHERE trial_id = %(id)s AND names = '{loss}'"
    rows = Database(url).execute(query, {"id": trial._trial_id})
    return {row["step"]: row["numbers"][0] for row in rows}


def test_a_forked_process_that_returns_ends_no_trial(orch: Orch, url: str, name: str) -> None:
    orch.ok(
        "run", "leaving_objectives:forks_and_returns", "--study", name, "--trials", "2",
        "--workers", "1", timeout=60,
    )  # fmt: skip
    trials = optuna.load_study(study_name=name, storage=rdb_storage(url)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert all(trial.value == trial.params["x"] for trial in trials)


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("fails_in_sqlite", "OperationalError"),
        ("fails_in_psycopg2", "OperationalError"),
        ("fails_in_an_inner_study", "UpdateFinishedTrialError"),
        ("reports_a_time_stamp", "step must be at most 2147483647"),
        ("draws_a_long_name", "has 600 characters; at most 512 can be stored"),
        ("fails_with_a_nul", "ValueError: before\ufffdafter"),
        ("reports_to_a_trial_that_has_ended", "has ended; it cannot be changed"),
    ],
)
def test_an_error_raised_by_the_objective_is_a_failed_attempt(
    orch: Orch, url: str, name: str, objective: str, reason: str
) -> None:
    orch.ok(
        "create", name, "--objective", f"leaving_objectives:{objective}", "--trials", "2",
        "--sampler", "random", "--set", "worker.max_retries=0",
    )  # fmt: skip
    orch.ok("enqueue", name, "--params", "x=0.8")
    orch.ok("enqueue", name, "--params", "x=0.1")
    done = orch("resume", name, "--workers", "1", timeout=120)
    assert done.returncode == 0, done.stderr
    trials = optuna.load_study(study_name=name, storage=rdb_storage(url)).trials
    assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 2, "FAIL": 1}
    (failed,) = (trial for trial in trials if trial.state.name == "FAIL")
    assert reason in failed.user_attrs["orch:reason"]


def test_a_copied_trial_is_the_same_and_numpys_numbers_are_stored(
    orch: Orch, url: str, name: str
) -> None:
    orch.ok(
        "run", "leaving_objectives:copies_its_trial", "--study", name, "--trials", "1",
        "--workers", "1", "--pruner", "none", timeout=60,
    )  # fmt: skip
    (trial,) = optuna.load_study(study_name=name, storage=rdb_storage(url)).trials
    assert trial.intermediate_values == {1: 0.25}
    assert trial.user_attrs["scores"] == [0.5, 0.75] and trial.user_attrs["best"] == 3


@pytest.mark.parametrize(
    "objective", ["has_a_pool", "ends_a_child", "ends_children_at_once", "reads_its_input"]
)
def test_threads_and_processes_of_an_objective_end_as_without_orch(
    orch: Orch, name: str, objective: str
) -> None:
    orch.ok(
        "run", f"leaving_objectives:{objective}", "--study", name, "--trials", "2",
        "--workers", "1", timeout=60,
    )  # fmt: skip
    assert orch.report(name)["states"]["complete"] == 2


def test_a_call_that_holds_the_gil_keeps_its_trial(
    orch: Orch, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSY_SECONDS", "6")
    orch.ok(
        "create", name, "--objective", "leaving_objectives:keeps_python_to_itself", "--trials", "8",
        "--set", "worker.heartbeat_seconds=0.4", "--set", "worker.grace_seconds=1.5",
    )  # fmt: skip
    orch.ok("enqueue", name, "--params", "x=0.1")
    # The other worker claims all the while, and would take back what is lost.
    orch.ok("resume", name, "--workers", "2", timeout=120)
    report = orch.report(name)
    assert report["states"]["complete"] == 8 and report["retries"] == 0
    (busy,) = (trial for trial in _trials(url, name) if trial.value == 0.1)
    assert busy.user_attrs["seconds in C"] > 1.5, "longer than the grace period"


def test_a_suspended_process_loses_its_trial_and_writes_nothing_when_resumed(
    orch: Orch, url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = tmp_path / "stopped"
    monkeypatch.setenv("STOPPED", str(stopped))
    orch.ok(
        "create", name, "--objective", "leaving_objectives:is_stopped", "--trials", "4",
        "--set", "worker.heartbeat_seconds=0.4", "--set", "worker.grace_seconds=1.5",
        "--pruner", "none",
    )  # fmt: skip
    orch.ok("enqueue", name, "--params", "x=0.1")
    first = orch.start("worker", name)
    wait_until(lambda: stopped.exists() and stopped.read_text().isdigit())
    wait_until(lambda: _trials(url, name)[0].intermediate_values == {1: 0.1})
    process = int(stopped.read_text())
    os.kill(process, signal.SIGSTOP)
    orch.ok("worker", name)  # takes the trial back after the grace period
    trials = _trials(url, name)
    stopped.write_text("go on")
    os.kill(process, signal.SIGCONT)
    assert "was taken back meanwhile; dropped" in ended(first) and first.returncode == 0
    assert _trials(url, name) == trials, "nothing was written"
    lost, *others = trials
    assert lost.state.name == "FAIL" and lost.params == {"x": 0.1}
    assert "no sign of life" in lost.user_attrs["orch:reason"]
    assert lost.intermediate_values == {1: 0.1} and "late" not in lost.user_attrs
    assert [trial.state.name for trial in others] == ["COMPLETE"] * 4
    retried = [trial.number for trial in others if trial.value == 0.1]
    assert retried == [lost.user_attrs["orch:retried_as"]], (
        "after the grace period, whenever that is"
    )


def _trials(url: str, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=rdb_storage(url)).trials
