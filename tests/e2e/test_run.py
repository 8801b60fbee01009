"""orch run: create, resume, refuse; progress, report and interruption."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import psutil
import pytest
from conftest import Orch
from fault_site import wait_until

from orchestrator.storage.database import Database


def done(orch: Orch, name: str) -> int:
    states = orch.report(name)["states"]
    return int(states["complete"] + states["pruned"])


def test_run_prints_a_line_per_trial_and_the_report(orch: Orch, name: str) -> None:
    ended = orch("run", "quadratic", "--study", name, "--trials", "6", "--workers", "2")
    assert ended.returncode == 0, ended.stderr
    assert f"Study {name}: quadratic, value (minimize), auto with hyperband" in ended.stdout
    assert "Trials 6 of 6" in ended.stdout
    for number in range(6):
        assert f"trial {number} " in ended.stderr
    assert "6/6 trials" in ended.stderr and "best value" in ended.stderr


def test_running_a_finished_study_again_runs_nothing_more(orch: Orch, name: str) -> None:
    command = ["run", "quadratic", "--study", name, "--trials", "5", "--workers", "2"]
    orch.ok(*command)
    first = orch.report(name)["trials"]
    orch.ok(*command)
    assert orch.report(name)["trials"] == first


def test_a_changed_spec_under_the_same_name_is_refused_and_the_difference_shown(
    orch: Orch, name: str
) -> None:
    orch.ok("create", name, "--objective", "quadratic", "--trials", "4")
    message = orch.refused(
        2,
        "run",
        "quadratic",
        "--study",
        name,
        "--trials",
        "4",
        "--sampler",
        "random",
        "--seed",
        "7",
    )
    assert 'sampler.name: "auto" -> "random"' in message and "training.seed: 0 -> 7" in message
    message = orch.refused(2, "run", "quadratic", "--study", name, "--trials", "3")
    assert "study.trials: 4 -> 3" in message


def test_a_higher_budget_on_the_command_line_is_applied(orch: Orch, name: str) -> None:
    for trials in ("3", "6"):
        orch.ok("run", "quadratic", "--study", name, "--trials", trials, "--workers", "2")
    assert done(orch, name) == 6
    orch.ok("resume", name, "--add", "2", "--workers", "1")
    assert done(orch, name) == 8
    assert "must be higher" in orch.refused(2, "resume", name, "--trials", "8")


@pytest.mark.parametrize("repetition", range(2))
def test_eight_workers_end_at_exactly_the_budget(orch: Orch, name: str, repetition: int) -> None:
    orch.ok("run", "quadratic", "--study", name, "--trials", "40", "--workers", "8")
    states = orch.report(name)["states"]
    assert states["complete"] + states["pruned"] == 40
    assert states["running"] == states["waiting"] == states["failed"] == 0


def test_failed_attempts_are_retried_and_counted_once(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "quadratic", "--study", name, "--trials", "20", "--workers", "4",
        "--set", "objective.failure_rate=0.3", "--set", "worker.max_retries=20",
    )  # fmt: skip
    whole = orch.report(name)
    states = whole["states"]
    assert states["complete"] + states["pruned"] == 20 and states["failed"] == 0
    assert whole["retries"] > 0
    by_number = {trial["number"]: trial for trial in whole["trials"]}
    for trial in whole["trials"]:
        if trial["retry_of"] is not None:
            assert trial["params"] == by_number[trial["retry_of"]]["params"]


def test_a_configuration_that_always_fails_is_replaced_by_a_new_one(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "quadratic", "--study", name, "--trials", "12", "--workers", "2",
        "--set", "objective.failure_rate=0.5", "--set", "worker.max_retries=0",
        "--set", "worker.max_failures=100",
    )  # fmt: skip
    whole = orch.report(name)
    states = whole["states"]
    assert states["complete"] + states["pruned"] == 12
    assert states["failed"] > 0 and whole["retries"] == 0
    failed = [trial for trial in whole["trials"] if trial["state"] == "FAIL"]
    assert all("failed on purpose" in trial["reason"] for trial in failed)


def test_failures_in_a_row_end_the_study_with_exit_code_1(orch: Orch, name: str) -> None:
    ended = orch(
        "run", "user_objectives:broken", "--study", name, "--trials", "50", "--workers", "2",
        "--set", "worker.max_retries=1", "--set", "worker.max_failures=3",
    )  # fmt: skip
    assert ended.returncode == 1
    assert "3 configurations in a row failed" in ended.stderr
    assert "ValueError: no such layer" in ended.stderr
    lines = ended.stderr.splitlines()
    assert lines[-1].startswith("orch: study"), "after the trials that it is about"
    assert lines.count(lines[-1]) == 1, "once, though both workers end of it"
    told = [line for line in lines if "what it printed last: orch show" in line]
    assert len(told) == 1 and "FAIL" in told[0]
    shown = orch.ok(*told[0].rpartition("orch ")[2].split(";")[0].split())
    assert "ValueError: no such layer" in shown and "Traceback" in shown
    states = orch.report(name)["states"]
    assert states["failed"] >= 3 and states["waiting"] + states["running"] <= 1
    assert "failed" in orch.ok("list")


def test_a_killed_process_costs_an_attempt_but_no_trial(orch: Orch, name: str) -> None:
    ended = orch(
        "run", "user_objectives:crashes_once", "--study", name, "--trials", "4", "--workers", "1",
        "--pruner", "none",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "SIGKILL" in ended.stderr
    whole = orch.report(name)
    assert whole["states"]["complete"] == 4 and whole["retries"] == 1


def test_ctrl_c_stops_cleanly_and_says_how_to_resume(orch: Orch, name: str) -> None:
    running = orch.start(
        "run", "quadratic", "--study", name, "--trials", "30", "--workers", "2",
        "--set", "objective.sleep=0.5",
    )  # fmt: skip
    wait_until(lambda: name in orch.ok("list") and done(orch, name) >= 2)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"orch resume {name}" in errors
    states = orch.report(name)["states"]
    assert states["running"] == 0 and states["failed"] == 0
    orch.ok("resume", name, "--workers", "4")
    assert done(orch, name) == 30
    assert orch.report(name)["retries"] == 0, "an orderly leave is no failed attempt"


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(orch: Orch, name: str) -> None:
    orch.ok("create", name, "--objective", "quadratic", "--trials", "1",
            "--set", "objective.sleep=60")  # fmt: skip
    shell = orch.start("worker", name)
    wait_until(lambda: orch.report(name)["states"]["running"] == 1)
    shell.send_signal(signal.SIGINT)
    assert shell.stderr is not None
    assert "again: at once" in shell.stderr.readline()
    asked = time.monotonic()
    shell.send_signal(signal.SIGINT)
    _, errors = shell.communicate(timeout=60)
    assert time.monotonic() - asked < 30, "it does not wait for the step's end"
    assert shell.returncode == 130
    assert errors.splitlines() == ["stopped; nothing is lost: what these workers ran is given back"]
    states = orch.report(name)["states"]
    assert (states["running"], states["waiting"], states["failed"]) == (0, 1, 0)
    orch.ok("delete", name, "--yes")


@pytest.mark.parametrize("verb", ["run", "worker"])
def test_ctrl_c_twice_after_the_last_trial_says_that_the_study_is_done(
    orch: Orch, name: str, verb: str
) -> None:
    """In a real terminal: the trials are done, and the workers take long to end."""
    objective = "user_objectives:lingers"
    if verb == "worker":
        orch.ok("create", name, "--objective", objective, "--trials", "2")
        command = orch.command("worker", name)
    else:
        command = orch.command("run", objective, "--study", name, "--trials", "2", "--workers", "1")
    keyboard, terminal = pty.openpty()
    running = subprocess.Popen(
        command, env=orch.environment, stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    os.close(terminal)
    wait_until(lambda: name in orch.ok("list") and done(orch, name) == 2)
    os.write(keyboard, b"\x03")
    screen = _read_until(keyboard, "again: at once")
    os.write(keyboard, b"\x03")
    screen += _read_until(keyboard, f"orch report {name}")
    assert running.wait(timeout=60) == 130
    os.close(keyboard)
    assert f"stopped; study {name} is done, with 2 of 2 trials" in screen
    assert "resume" not in screen and "given back" not in screen.partition("at once")[2]


def _read_until(terminal: int, words: str) -> str:
    screen = ""
    while words not in screen.replace("\r\n", ""):
        assert select.select([terminal], [], [], 60)[0], screen
        screen += os.read(terminal, 65536).decode(errors="replace")
    return screen


def test_a_closed_terminal_loses_nothing(orch: Orch, name: str) -> None:
    parent, terminal = pty.openpty()
    running = subprocess.Popen(
        orch.command(
            "run", "quadratic", "--study", name, "--trials", "30", "--workers", "2",
            "--set", "objective.sleep=0.1",
        ),
        env={**orch.environment, "TERM": "xterm"},
        stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    deadline = time.monotonic() + 60
    while b"trial 2 " not in shown and time.monotonic() < deadline:
        shown += os.read(parent, 65536)
    assert b"trials," in shown, "the live picture has a headline"
    os.close(parent)  # the terminal window is closed: SIGHUP, and writes fail
    running.wait(timeout=60)
    assert orch.report(name)["states"]["running"] == 0
    orch.ok("resume", name, "--workers", "4")
    assert done(orch, name) == 30


def test_workers_do_not_outlive_a_killed_supervisor(orch: Orch, name: str) -> None:
    running = orch.start(
        "run", "user_objectives:slow", "--study", name, "--trials", "3", "--workers", "2"
    )
    wait_until(lambda: name in orch.ok("list") and orch.report(name)["states"]["running"] == 2)
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) >= 2
    running.kill()
    running.wait()
    wait_until(lambda: not any(_alive(child) for child in children), seconds=20)
    states = orch.report(name)["states"]
    assert states["running"] == 0 and states["waiting"] == 2
    orch.ok("delete", name, "--yes")


def test_two_shells_share_one_study(orch: Orch, name: str) -> None:
    orch.ok(
        "create", name, "--objective", "quadratic", "--trials", "24",
        "--set", "objective.sleep=0.05",
    )  # fmt: skip
    shells = [orch.start("worker", name, "--processes", "2") for _ in range(2)]
    for shell in shells:
        _, errors = shell.communicate(timeout=120)
        assert shell.returncode == 0, errors
        assert " of 24 trials done; " in errors.splitlines()[-1]
    whole = orch.report(name)
    assert whole["states"]["complete"] + whole["states"]["pruned"] == 24
    assert len([worker for worker in whole["workers"] if worker["trials"]]) == 4


def test_stop_drains_the_workers_of_every_shell(orch: Orch, name: str) -> None:
    orch.ok(
        "create", name, "--objective", "quadratic", "--trials", "500",
        "--set", "objective.sleep=0.05",
    )  # fmt: skip
    shell = orch.start("worker", name, "--processes", "2")
    wait_until(lambda: done(orch, name) >= 2)
    orch.ok("stop", name)
    _, errors = shell.communicate(timeout=60)
    assert shell.returncode == 0, errors
    states = orch.report(name)["states"]
    assert states["running"] == states["waiting"] == states["failed"] == 0
    assert "stopping" in orch.ok("list")


def test_a_deleted_study_ends_its_workers_with_one_line(orch: Orch, name: str) -> None:
    orch.ok(
        "create", name, "--objective", "quadratic", "--trials", "500",
        "--set", "objective.sleep=0.05",
    )  # fmt: skip
    shell = orch.start("worker", name)
    wait_until(lambda: done(orch, name) >= 1)
    assert "--yes" in orch.refused(2, "delete", name)
    orch.ok("delete", name, "--yes")
    _, errors = shell.communicate(timeout=60)
    assert shell.returncode == 1
    assert "deleted" in errors.splitlines()[-1] and "Traceback" not in errors
    assert name not in orch.ok("list")


def test_the_timeout_of_a_study_ends_it_cleanly(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "quadratic", "--study", name, "--trials", "1000", "--workers", "1",
        "--timeout", "3s", "--set", "objective.sleep=0.02",
    )  # fmt: skip
    states = orch.report(name)["states"]
    assert 0 < states["complete"] + states["pruned"] < 1000
    assert states["running"] == states["waiting"] == 0


def test_a_function_of_plain_optuna_runs_unchanged(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "user_objectives:conditional", "--study", name, "--trials", "15", "--workers", "2",
        "--param", 'kind="bowl"',
    )  # fmt: skip
    trials = orch.report(name)["trials"]
    assert len(trials) == 15
    assert all(trial["params"]["kind"] == "bowl" and "y" in trial["params"] for trial in trials)


def test_a_value_that_is_not_a_number_ends_the_trial_with_the_reason(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "user_objectives:not_a_number", "--study", name, "--trials", "2", "--workers", "1"
    )
    trials = orch.report(name)["trials"]
    assert [trial["state"] for trial in trials] == ["PRUNED", "PRUNED"]
    assert all("returned nan" in trial["reason"] for trial in trials)


def test_the_same_seed_draws_the_same_first_trials(orch: Orch, name: str) -> None:
    drawn = []
    for suffix in ("a", "b"):
        study = f"{name}{suffix}"
        orch.ok("run", "quadratic", "--study", study, "--trials", "8", "--workers", "1",
                "--pruner", "none")  # fmt: skip
        drawn.append([trial["params"] for trial in orch.report(study)["trials"]])
    assert drawn[0] == drawn[1]


def test_plain_optuna_opens_a_study_of_orch(orch: Orch, name: str, url: str) -> None:
    import optuna

    orch.ok("run", "quadratic", "--study", name, "--trials", "6", "--workers", "2")
    study = optuna.load_study(
        study_name=name, storage=url.replace("postgresql://", "postgresql+psycopg2://")
    )
    whole = orch.report(name)
    assert study.best_trial.number == whole["best"]["number"]
    assert study.best_value == whole["best"]["value"]
    assert len(study.trials) == 6
    assert study.metric_names == ["value"]


def test_command_line_options_override_a_spec_file(orch: Orch, name: str, tmp_path: Path) -> None:
    file = tmp_path / "bowl.toml"
    file.write_text(
        f'[study]\nname = "{name}"\nobjective = "quadratic"\ntrials = 9\n'
        "[space]\nx = 1.5\ny = { int = [-5, 5] }\n[sampler]\nname = 'random'\n"
    )
    orch.ok("run", str(file), "--trials", "4", "--workers", "1")
    whole = orch.report(name)
    assert whole["budget"] == 4 and whole["sampler"] == "random"
    for trial in whole["trials"]:
        assert trial["params"]["x"] == 1.5 and isinstance(trial["params"]["y"], int)
    shown = orch.ok("show", name)
    assert "y = {int = [-5, 5]}" in shown and "4 of 4 trials done" in shown


def test_a_run_leaves_no_connection_open(database: Database, orch: Orch, name: str) -> None:
    def connections() -> set[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'orch'"
        return {row["pid"] for row in database.execute(query)}

    before = connections()  # this test's own, and those of fixtures that other tests share
    orch.ok("run", "quadratic", "--study", name, "--trials", "4", "--workers", "2")
    wait_until(lambda: connections() <= before)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
