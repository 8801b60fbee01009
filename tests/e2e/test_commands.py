"""Commands as objectives: how they are given, what they report, and how each of them ends."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Orch
from fault_site import wait_until
from optuna.trial import TrialState

import orchestrator as orch_api
from orchestrator import Command, NoSuchStudy, OrchError, Study, StudyFailed, UsageError
from orchestrator.cli.main import app
from orchestrator.storage.database import Database
from orchestrator.training.command_process import CommandProcess

# Trains EPOCHS epochs, saves each before it reports it, and notes each beside itself.
TRAIN = """
import argparse, json, os, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--wait-at", type=int, default=0)
options = parser.parse_args()
path = os.path.join(os.environ["ORCH_CHECKPOINT_DIR"], "state.json")
first = json.load(open(path))["epoch"] + 1 if os.path.exists(path) else 1
for epoch in range(first, options.epochs + 1):
    with open("steps", "a") as steps:
        print(os.environ["ORCH_TRIAL"], epoch, os.getpid(), file=steps)
    with open(path + ".new", "w") as file:
        json.dump({"epoch": epoch}, file)
    os.replace(path + ".new", path)
    print(json.dumps({"step": epoch, "loss": options.lr / epoch, "accuracy": epoch / 10}))
    while epoch == options.wait_at and not os.path.exists("go"):
        time.sleep(0.02)
"""
SPACE = {"lr": {"float": [0.001, 0.1], "log": True}}
Make = Callable[..., Study]


@pytest.fixture
def make(url: str, home: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a study of a command in a folder of its own, without a pruner."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCH_HOME", str(home))
    (tmp_path / "train.py").write_text(TRAIN)

    def make(*arguments: str, **keywords: Any) -> Study:
        given = {"space": SPACE, "metric": "loss", "pruner": "none", "trials": 1, **keywords}
        command = Command([sys.executable, *arguments])
        return orch_api.create_study(name, objective=command, storage=url, **given)

    return make


def script(text: str) -> tuple[str, str]:
    return "-c", text.replace("{", "{{").replace("}", "}}")


def steps(folder: Path) -> list[int]:
    path = folder / "steps"
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.split()[1]) for line in lines]


def trainer(folder: Path) -> int:
    """The process of the newest step."""
    return int((folder / "steps").read_text().splitlines()[-1].split()[2])


# What it is told and what it tells


def test_a_line_with_a_step_is_a_report_and_the_last_value_is_the_trials(make: Make) -> None:
    study = make("train.py", "--lr", "{lr}", trials=2).run(workers=0, progress=False)
    for trial in study.trials:
        values = {step: trial.params["lr"] / step for step in range(1, 6)}
        assert trial.intermediate_values == values and trial.value == values[5]
    pytest.importorskip("pandas")
    logs = study.to_dataframe(logs=True).loc[0]
    assert list(logs["accuracy"]) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_it_finds_its_trial_its_seed_and_its_parameters_in_the_environment(make: Make) -> None:
    text = """
import json, os, pathlib
keys = [key for key in os.environ if key.startswith("ORCH_")]
pathlib.Path("told").write_text(json.dumps({key: os.environ[key] for key in keys}))
os.chdir("/")
print('{"loss": 1}')
"""
    space = {"lr": 0.5, "with bias": True, "kind": "a b"}
    study = make(*script(text), space=space).run(workers=0, progress=False)
    told = json.loads(Path("told").read_text())
    assert told["ORCH_TRIAL"] == "0" and told["ORCH_SEED"].isdigit()
    assert told["ORCH_PARAM_LR"] == "0.5" and told["ORCH_PARAM_WITH_BIAS"] == "true"
    assert told["ORCH_PARAM_KIND"] == "a b"
    assert "ORCH_STORAGE" not in told, "a password may be in it"
    assert not Path(told["ORCH_CHECKPOINT_DIR"]).exists()
    assert study.best.value == 1


def test_a_hopeless_command_is_stopped_whatever_its_exit_code(make: Make, tmp_path: Path) -> None:
    text = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: (open("stopped", "w"), exit(7)))
print('{"step": 1, "loss": 9}')
time.sleep(99)
"""
    pruner = {"name": "threshold", "upper": 1.0}
    study = make(*script(text), pruner=pruner).run(workers=0, progress=False)
    assert study.trials[0].state == TrialState.PRUNED and study.trials[0].value == 9
    assert (tmp_path / "stopped").exists()


def test_several_metrics_are_the_last_value_of_each(make: Make) -> None:
    lines = ['{"step": 1, "loss": 9, "accuracy": 0.1}', '{"loss": 2}', '{"accuracy": 0.5}']
    study = make(*script(f"print(*{lines!r}, sep=chr(10))"), metric=["loss", "accuracy"])
    study.run(workers=0, progress=False)
    assert study.trials[0].values == [2.0, 0.5]


# How it ends


@pytest.mark.parametrize(
    "text, reason",
    [
        ("print('no JSON')", "without a line of JSON with 'loss'"),
        ("""print('{"step": 1, "loss": "low"}')""", "reports 'loss' as \"low\" in step 1"),
        ("""print('{"step": -1, "loss": 1}')""", "must be non-negative"),
        ("""print('{"step": 1' + "0" * 30 + ', "loss": 1}')""", "ValueError"),
        ("import sys; print('bad lr', file=sys.stderr); sys.exit(3)", "exit code 3: bad lr"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL, and it printed nothing"),
    ],
)
def test_a_command_that_ends_badly_fails_with_its_reason(
    make: Make, text: str, reason: str
) -> None:
    worker = {"max_retries": 0, "max_failures": 1}
    with pytest.raises(StudyFailed) as error:
        make(*script(text), worker=worker).run(workers=0, progress=False)
    assert reason in str(error.value)


def test_the_last_lines_of_a_failed_command_are_kept(make: Make) -> None:
    text = "import sys; [print('line', n, file=sys.stderr) for n in range(40)]; sys.exit(1)"
    study = make(*script(text), worker={"max_retries": 0, "max_failures": 1})
    with pytest.raises(StudyFailed):
        study.run(workers=0, progress=False)
    log = study.trials[0].user_attrs["orch:log"]
    assert log.endswith("line 38\nline 39")


@pytest.mark.parametrize(
    "text, printed, reason",
    [
        (
            "import sys; print('its own words', file=sys.stderr); sys.exit(3)", "its own words\n",
            "CommandFailed: the command ended with exit code 3: its own words",
        ),
        ("print('no JSON')", "no JSON\n", "FailedTrialError: the command ended without a line"),
    ],
)  # fmt: skip
def test_a_failed_command_prints_what_it_printed_and_one_line_of_orch(
    make: Make, orch: Orch, name: str, text: str, printed: str, reason: str
) -> None:
    make(*script(text), worker={"max_retries": 0, "max_failures": 1})
    assert orch("worker", name).returncode == 1
    [own, line, *rest] = orch.ok("logs", name, "0").splitlines(keepends=True)
    assert own == printed and f"trial 0 failed: {reason}" in line and not rest


def test_a_metric_that_it_does_not_report_stops_the_study_with_the_nearest(make: Make) -> None:
    study = make("train.py", "--lr", "{lr}", metric="los", direction="minimize")
    with pytest.raises(UsageError, match="did you mean 'loss'"):
        study.run(workers=0, progress=False)


@pytest.mark.parametrize("value, state", [("NaN", "PRUNED"), ("Infinity", "COMPLETE")])
def test_values_that_are_not_finite_end_as_those_of_a_function(
    make: Make, value: str, state: str
) -> None:
    study = make(*script(f"""print('{{"step": 1, "loss": {value}}}')"""))
    study.run(workers=0, progress=False)
    assert study.trials[0].state.name == state


def test_a_hopeless_command_that_ignores_sigterm_is_killed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = functools.partial(CommandProcess, leave_seconds=0.5)
    monkeypatch.setattr("orchestrator.training.command.CommandProcess", impatient)
    text = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("asked").touch())
pathlib.Path("pid").write_text(str(os.getpid()))
print('{"step": 1, "loss": 9}')
while True: time.sleep(99)
"""
    pruner = {"name": "threshold", "upper": 1.0}
    study = make(*script(text), pruner=pruner).run(workers=0, progress=False)
    assert study.trials[0].state == TrialState.PRUNED and study.trials[0].value == 9
    assert (tmp_path / "asked").exists()
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_children_that_a_command_leaves_behind_end_with_its_trial(
    make: Make, tmp_path: Path
) -> None:
    text = """
import pathlib, subprocess
children = [subprocess.Popen(["sleep", "99"], start_new_session=own) for own in (False, True)]
pathlib.Path("pids").write_text(" ".join(str(each.pid) for each in children))
print('{"loss": 1}')
"""
    study = make(*script(text)).run(workers=0, progress=False)
    assert study.best.value == 1
    assert not any(map(psutil.pid_exists, map(int, (tmp_path / "pids").read_text().split())))


def test_a_command_that_prints_100_megabytes_has_its_value_and_the_newest_lines(
    make: Make, orch: Orch, name: str
) -> None:
    text = """
for _ in range(100): print(("x" * 999 + chr(10)) * 1000, end="")
print('{"step": 1, "loss": 0.5}')
print("the end")
"""
    make(*script(text))
    orch.ok("worker", name)
    [trial] = orch.report(name)["trials"]
    assert trial["state"] == "COMPLETE" and trial["value"] == 0.5
    printed = orch.ok("logs", name, "0")
    assert printed.endswith('{"step": 1, "loss": 0.5}\nthe end\n') and len(printed) < 66_000


# Checkpoints


def test_a_retry_goes_on_from_the_folder_of_the_last_report(make: Make, tmp_path: Path) -> None:
    failing = TRAIN + "    if epoch == 3 and first == 1: raise SystemExit('lost')\n"
    (tmp_path / "failing.py").write_text(failing)
    study = make("failing.py", "--lr", "{lr}").run(workers=0, progress=False)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert sorted(study.trials[1].intermediate_values) == [1, 2, 3, 4, 5]


def test_a_retry_of_one_that_had_only_to_end_has_its_value(make: Make, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(TRAIN + "if first == 1: raise SystemExit('lost')\n")
    study = make("failing.py", "--lr", "{lr}").run(workers=0, progress=False)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert study.best.value == study.best.params["lr"] / 5


def test_without_files_in_its_folder_a_retry_starts_anew(make: Make, tmp_path: Path) -> None:
    text = TRAIN.replace("os.replace(path", "(lambda *_: os.remove(path + '.new'))(path")
    (tmp_path / "failing.py").write_text(
        text + "    if epoch == 3 and not os.path.exists('once'): open('once', 'w'); exit(1)\n"
    )
    study = make("failing.py", "--lr", "{lr}").run(workers=0, progress=False)
    assert steps(tmp_path) == [1, 2, 3, 1, 2, 3, 4, 5]
    assert sorted(study.best.intermediate_values) == [1, 2, 3, 4, 5]


# Workers that are killed, asked to leave, or given up


@pytest.fixture
def shell(make: Make, orch: Orch, name: str) -> Callable[..., subprocess.Popen[str]]:
    """Starts a worker of a study whose command waits at its second step for a file ``go``."""

    def start(**worker: Any) -> subprocess.Popen[str]:
        settings = {"heartbeat_seconds": 0.4, "grace_seconds": 2, **worker}
        make("train.py", "--lr", "{lr}", "--wait-at", "2", worker=settings)
        return orch.start("worker", name)

    return start


def saved_step(database: Database, study: str) -> int:
    """The step of the study's newest checkpoint; 0: there is none."""
    rows = database.execute(
        "SELECT coalesce(max(step), 0) AS step FROM orch.checkpoint JOIN trials USING (trial_id)"
        " JOIN studies USING (study_id) WHERE study_name = %(study)s",
        {"study": study},
    )
    return int(rows[0]["step"])


def test_a_folder_above_the_limit_is_not_copied_and_said(
    make: Make, orch: Orch, database: Database, name: str, tmp_path: Path
) -> None:
    text = TRAIN.replace(
        "    print(json",
        "    open(path + '.big', 'wb').write(bytes(3_000_000)) if epoch == 3 else None\n"
        "    print(json",
    )
    (tmp_path / "big.py").write_text(
        text + "    if epoch == 4 and first == 1: raise SystemExit('lost')\n"
    )
    make("big.py", "--lr", "{lr}", "--wait-at", "2", worker={"artifact_limit_mb": 2})
    worker = orch.start("worker", name)
    wait_until(lambda: saved_step(database, name) == 2)
    (tmp_path / "go").touch()
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0 and steps(tmp_path) == [1, 2, 3, 4, 3, 4, 5]
    assert errors.count("above worker.artifact_limit_mb") == 2  # once for each attempt


def test_after_a_kill_the_retry_goes_on_from_the_second_checkpoint(
    shell: Callable[..., subprocess.Popen[str]], database: Database, name: str, tmp_path: Path
) -> None:
    started = shell()
    wait_until(lambda: saved_step(database, name) == 2)
    [worker] = [each for each in psutil.Process(started.pid).children() if each.is_running()]
    command = trainer(tmp_path)
    worker.kill()
    wait_until(lambda: not psutil.pid_exists(command))
    (tmp_path / "go").touch()
    assert started.wait(60) == 0, started.communicate()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    trials = orch_api.load_study(name, storage=database.url).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert sorted(trials[1].intermediate_values) == [1, 2, 3, 4, 5]


def test_a_worker_that_leaves_hands_its_trial_back_while_the_command_is_silent(
    shell: Callable[..., subprocess.Popen[str]], database: Database, name: str, tmp_path: Path
) -> None:
    started = shell()
    wait_until(lambda: saved_step(database, name) == 2)
    command = trainer(tmp_path)
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 130
    assert not psutil.pid_exists(command)
    study = orch_api.load_study(name, storage=database.url)
    assert [trial.state.name for trial in study.trials] == ["WAITING"]
    (tmp_path / "go").touch()
    study.run(workers=0, progress=False)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]


def test_a_command_that_hangs_is_ended_with_its_trial(
    shell: Callable[..., subprocess.Popen[str]], database: Database, name: str, tmp_path: Path
) -> None:
    started = shell(trial_timeout="3s", max_retries=0, max_failures=1)
    wait_until(lambda: len(steps(tmp_path)) == 2)
    command = trainer(tmp_path)
    assert started.wait(60) == 1
    wait_until(lambda: not psutil.pid_exists(command))
    [trial] = orch_api.load_study(name, storage=database.url).trials
    assert "trial_timeout" in trial.user_attrs["orch:reason"]


# Who may run a stored command


@pytest.fixture
def elsewhere(url: str, open_path: Path) -> Orch:
    """Another machine: nothing was said there."""
    return Orch(open_path, url)


def test_another_machine_runs_a_stored_command_only_when_it_is_allowed(
    make: Make, elsewhere: Orch, name: str, database: Database
) -> None:
    make("train.py", "--lr", "{lr}", "--esc=\x1b[2J", trials=2)
    for verb in ("worker", "resume"):
        refusal = elsewhere.refused(1, verb, name)
        assert "--allow-command" in refusal and "train.py --lr {lr} '--esc=\\x1b[2J'" in refusal
    assert not orch_api.load_study(name, storage=database.url).trials


def test_what_was_allowed_once_stays_allowed(make: Make, elsewhere: Orch, name: str) -> None:
    make("train.py", "--lr", "{lr}", trials=1)
    elsewhere.ok("worker", name, "--allow-command")
    elsewhere.ok("replay", name, "0")


def test_a_changed_file_is_refused_as_a_changed_function_is(
    make: Make, elsewhere: Orch, url: str, name: str, tmp_path: Path
) -> None:
    make("train.py", "--lr", "{lr}")
    (tmp_path / "train.py").write_text(TRAIN + "# changed\n")
    with pytest.raises(StudyFailed, match=r"the file train\.py differs"):
        orch_api.load_study(name, storage=url).run(workers=0, progress=False)
    assert "the file train.py" in elsewhere.refused(1, "worker", name, "--allow-command")
    study = orch_api.load_study(name, storage=url)
    assert study.run(workers=0, progress=False, allow_mismatch=True).state == "done"


# How it is given on the command line


def test_a_command_behind_two_dashes_needs_no_file(
    orch: Orch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    given = ["--study", name, "--metric", "loss", "--param", "lr={float=[0.1,1.0]}"]
    orch.ok("run", *given, "--trials", "2", "--workers", "1", "--pruner", "none",
            "--", sys.executable, "train.py", "--lr", "{lr}")  # fmt: skip
    report = orch.report(name)
    assert report["states"]["complete"] == 2 and report["direction"] == "minimize"
    assert report["objective"].endswith("train.py --lr {lr}")


def test_the_other_verbs_know_commands(make: Make, url: str, name: str) -> None:
    study = make("train.py", "--lr", "{lr}")
    study.enqueue({"lr": 0.05})
    study.run(workers=0, progress=False)
    assert study.trials[0].params == {"lr": 0.05}
    assert "0.001 to 0.1" in str(study.search_space())
    assert '"train.py", "--lr", "{lr}"]' in study.show()
    listed = {each.name: each.objective for each in orch_api.list_studies(storage=url)}
    assert listed[name].startswith("command:") and listed[name].endswith("train.py --lr {lr}")
    assert f"Study {name}: command:" in study.report()
    assert study.replay(0).largest_difference == 0
    for verb in (lambda: study.refit("m.keras"), lambda: study.predict("m.png"), study.best_model):
        with pytest.raises(OrchError, match="a command keeps no model"):
            verb()


def test_a_spec_file_has_the_command_or_its_space_alone(
    orch: Orch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    whole = f"""
[study]
objective = ["{sys.executable}", "train.py", "--lr", "{{lr}}"]
metric = "loss"
trials = 1
[space]
lr = {{ float = [0.1, 1.0] }}
"""
    (tmp_path / "whole.toml").write_text(whole)
    (tmp_path / "space.toml").write_text(whole.replace("objective", "# objective"))
    orch.ok("run", "whole.toml", "--study", name, "--workers", "1")
    command = ["--", sys.executable, "train.py", "--lr", "{lr}"]
    orch.ok("run", "space.toml", "--study", name, "--workers", "1", *command)
    assert "give one of them" in orch.refused(2, "run", "whole.toml", *command)
    orch.ok("create", f"{name}-b", "--spec", "space.toml", *command)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--metric", "loss", "--param", "lr=1", "--", "python3", "{lrr}"], "did you mean 'lr'?"),
        (["--metric", "loss", "--", "python3", "{lr}"], "--param lr=DOMAIN"),
        (["--param", "lr=1", "--", "python3", "{lr}"], "--metric val_accuracy"),
        (["--metric", "foo", "--", "python3"], "--direction minimize"),
        (["--metric", "loss", "--", "no-such-program"], "no program 'no-such-program'"),
        (["--metric", "loss", "--", "./train.py"], "chmod +x ./train.py"),
        (["--metric", "loss", "--", "python3", "{"], "write {{ and }}"),
        (["--metric", "loss", "--"], "nothing stands behind --"),
        (["mnist", "--", "python3"], "give one of them"),
        (["--metric", "loss"], "name the objective"),
        (["--metric", "loss", "--param", "a-b=1", "--param", "a_b=1", "--", "python3"], "rename"),
        (["--metric", "loss", "--folds", "3", "--", "python3"], "folds"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line_and_nothing_is_stored(
    url: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    with pytest.raises(UsageError, match=r"^[^\n]+$") as error:
        app(["run", "--study", name, "--storage", url, *arguments], standalone_mode=False)
    assert words in str(error.value)
    with pytest.raises(NoSuchStudy):
        orch_api.load_study(name, storage=url)
