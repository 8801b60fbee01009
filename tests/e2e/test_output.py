"""What trials print is kept, whoever wrote it and however the process ended."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from conftest import Orch
from fault_site import OwnServer, ended, wait_until

import orchestrator
from orchestrator.storage.database import Database

ALL = """\
printed
red, and \tno bell
to standard error
by the descriptor
by C
by a child
and its errors
step 3
by a logger
postgresql://me:***@host/db
Grüße, <b>&amp;</b>
no end
"""


def run(orch: Orch, name: str, objective: str, trials: int = 1, *options: str) -> None:
    orch.ok(
        "run", f"printing_objectives:{objective}", "--study", name, "--trials", str(trials),
        "--workers", "1", "--sampler", "random", "--direction", "minimize", *options,
    )  # fmt: skip


@dataclass
class Gated(Orch):
    """Whose trials of ``waits`` wait for files in a folder."""

    folder: Path = Path()

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PRINTING_FOLDER": str(self.folder)}

    def create(self, name: str) -> None:
        self.ok(
            "create", name, "--objective", "printing_objectives:waits", "--trials", "1",
            "--pruner", "none", "--set", "worker.heartbeat_seconds=0.3",
            "--set", "worker.grace_seconds=30",
        )  # fmt: skip

    def has_begun(self) -> bool:
        return (self.folder / "begun").exists()

    def printed(self) -> list[str]:
        return (self.folder / "begun").read_text().splitlines()


@pytest.fixture
def gated(home: Path, tmp_path: Path) -> Gated:
    return Gated(home, None, tmp_path)


class Terminal:
    """A command in a pseudo-terminal of its own."""

    def __init__(self, orch: Orch, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        self._ours = ours
        self.process = subprocess.Popen(
            orch.command(*arguments),
            env=orch.environment, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._ours, 65536):
                self.text += part.decode()
        except OSError:  # Linux: the other side is closed
            pass

    def wait(self) -> int:
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=30)
        os.close(self._ours)
        return code


def test_each_trial_keeps_what_it_printed_and_no_other_does(
    orch: Orch, name: str, database: Database
) -> None:
    run(orch, name, "prints", 3)
    assert orch.ok("logs", name, "0") == ALL
    assert orch.ok("logs", name, "2") == "only of trial 2\n"
    silent = orch("logs", name, "1")
    assert (silent.returncode, silent.stdout) == (0, "")
    assert silent.stderr == "trial 1 has printed nothing\n"
    stored = database.execute(
        "SELECT number, octet_length(body) AS bytes, ended FROM orch.output JOIN trials "
        "USING (trial_id) JOIN studies USING (study_id) WHERE study_name = %(name)s ORDER BY 1",
        {"name": name},
    )
    assert [row["number"] for row in stored] == [0, 2] and all(row["ended"] for row in stored)
    assert stored[0]["bytes"] < len(ALL)
    assert orch.ok("logs", name, "0", "--follow") == ALL, "it ends at once for an ended trial"

    study = orchestrator.load_study(name, storage=database.url)
    assert study.logs(0) == ALL == "".join(study.follow_logs(0))
    study.delete()
    left = (
        "SELECT count(*) AS n FROM orch.output WHERE trial_id NOT IN (SELECT trial_id FROM trials)"
    )
    assert database.execute(left) == [{"n": 0}]


def test_a_process_that_is_killed_leaves_its_last_lines_and_its_retry_has_its_own(
    orch: Orch, name: str, database: Database
) -> None:
    run(orch, name, "dies")
    last = "attempt 0\nthe last line of C\nits last words\n"
    assert orch.ok("logs", name, "0") == last
    assert orch.ok("logs", name, "1") == "attempt 1\n"
    followed = f"{last}[trial 0 failed and is retried as trial 1]\nattempt 1\n"
    assert orch.ok("logs", name, "0", "--follow") == followed
    failed = orchestrator.load_study(name, storage=database.url).trials[0]
    assert failed.user_attrs["orch:log"] == last.strip()
    shown = orch.ok("show", name, "--trial", "0")
    assert "failed" in shown and "SIGKILL" in shown and "its last words" in shown
    assert "retried as:    trial 1" in shown and "worker: " in shown
    assert "retry of:      trial 0; attempt 2" in orch.ok("show", name, "--trial", "1")


def test_a_trial_that_prints_100_megabytes_keeps_the_newest_64_kib(
    orch: Orch, name: str, database: Database
) -> None:
    run(orch, name, "floods")
    text = orchestrator.load_study(name, storage=database.url).logs(0)
    first, *lines = text.splitlines()
    assert first == "[earlier lines are not kept]" and lines[-1] == "the end of the flood"
    assert set(lines[:-1]) == {"x" * 1023}
    assert 62 * 1024 < len(text) <= 64 * 1024 + len(first) + 1
    [row] = database.execute(
        "SELECT lines, octet_length(body) AS bytes FROM orch.output JOIN trials USING (trial_id) "
        "JOIN studies USING (study_id) WHERE study_name = %(name)s",
        {"name": name},
    )
    assert row["lines"] == 100 * 1024 + 1 and row["bytes"] < 64 * 1024


def test_a_failed_trial_can_be_read_without_a_client_of_the_database(orch: Orch, name: str) -> None:
    done = orch(
        "run", "printing_objectives:raises", "--study", name, "--trials", "1", "--workers", "1",
        "--set", "worker.max_retries=0", "--set", "worker.max_failures=1",
    )  # fmt: skip
    assert done.returncode == 1
    shown = orch.ok("show", name, "--trial", "0")
    assert shown.startswith(f"trial 0 of study {name}: failed\n")
    for word in ("reason: ", "  x: ", "reported: ", "worker: ", "started: ", "ended: ", "seed: "):
        assert f"\n{word}" in shown
    assert "ValueError: on purpose (printing_objectives.py, line " in shown and "1: 0.25" in shown
    assert "\n  before the error <script>alert(1)</script>\n" in shown
    assert 'raise ValueError("on purpose")' in shown and "\x1b" not in shown
    assert orch.ok("logs", name, "0").splitlines()[-1] == "ValueError: on purpose"


def test_a_trial_is_followed_in_a_terminal_while_another_worker_runs_it(
    gated: Gated, name: str
) -> None:
    gated.create(name)
    worker = gated.start("worker", name)
    wait_until(gated.has_begun)
    terminal = Terminal(gated, "logs", name, "0", "--follow")
    interrupted = Terminal(gated, "logs", name, "0", "-f")
    wait_until(lambda: "the trial has begun\r\n" in terminal.text)
    (gated.folder / "first").touch()
    wait_until(lambda: "saw first\r\n" in terminal.text)
    wait_until(lambda: "saw first\r\n" in interrupted.text)
    os.killpg(interrupted.process.pid, signal.SIGINT)
    assert interrupted.wait() == 130
    assert interrupted.text == "the trial has begun\r\nsaw first\r\n"
    assert f"trial 0 of study {name}: running" in gated.ok("show", name, "--trial", "0")
    (gated.folder / "end").touch()
    ended(worker)
    assert terminal.wait() == 0
    assert terminal.text == "the trial has begun\r\nsaw first\r\nsaw end\r\n"


def test_a_trial_that_is_killed_is_followed_into_its_retry(gated: Gated, name: str) -> None:
    gated.create(name)
    worker = gated.start("worker", name)
    wait_until(gated.has_begun)
    terminal = Terminal(gated, "logs", name, "0", "--follow")
    wait_until(lambda: "the trial has begun\r\n" in terminal.text)
    (gated.folder / "die").touch()
    wait_until(lambda: terminal.text.count("saw die\r\n") == 2)
    (gated.folder / "end").touch()
    ended(worker)
    assert terminal.wait() == 0
    assert terminal.text.splitlines() == [
        "the trial has begun", "saw die", "[trial 0 failed and is retried as trial 1]",
        "the trial has begun", "saw die", "saw end",
    ]  # fmt: skip


def test_what_a_trial_prints_while_the_server_is_away_is_kept_and_followed(
    site: OwnServer, tmp_path: Path
) -> None:
    gated = Gated(site.home, None, tmp_path)
    gated.create("s")
    worker = gated.start("worker", "s")
    wait_until(gated.has_begun)
    terminal = Terminal(gated, "logs", "s", "0", "--follow")
    wait_until(lambda: "the trial has begun" in terminal.text)
    site.server.stop()
    for number in range(30):  # several heartbeats
        (tmp_path / f"away-{number:02}").touch()
        wait_until(lambda: len(gated.printed()) > number)  # noqa: B023
    site.server.ensure_running()
    wait_until(lambda: "saw away-29" in terminal.text)
    (tmp_path / "end").touch()
    errors = ended(worker)
    assert worker.returncode == 0, errors
    assert terminal.wait() == 0
    printed = ["the trial has begun", *(f"saw {name}" for name in gated.printed())]
    assert len(printed) == 32
    for text in (terminal.text, gated.ok("logs", "s", "0")):
        warnings = [line for line in text.splitlines() if line not in printed]
        assert [line for line in text.splitlines() if line in printed] == printed
        assert len(warnings) == 1 and "training goes on without the database" in warnings[0]
    [trial] = gated.report("s")["trials"]
    assert trial["state"] == "COMPLETE"


def test_a_released_trial_keeps_what_it_printed_in_both_processes(gated: Gated, name: str) -> None:
    gated.create(name)
    first = gated.start("worker", name)
    wait_until(gated.has_begun)
    (gated.folder / "first").touch()
    wait_until(lambda: "saw first" in gated("logs", name, "0").stdout)
    first.send_signal(signal.SIGINT)
    ended(first)
    (gated.folder / "end").touch()
    ended(gated.start("worker", name))
    begun = "the trial has begun\nsaw first\n"
    assert gated.ok("logs", name, "0") == f"{begun}the trial has begun\nsaw end\nsaw first\n"


def test_with_workers_0_the_output_stays_the_callers_own(
    url: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def prints(trial: optuna.Trial) -> float:
        print("in the caller's process")
        return trial.suggest_float("x", 0, 1)

    study = orchestrator.create_study(
        name, objective=prints, trials=1, direction="minimize", storage=url
    )
    study.run(workers=0, progress=False)
    assert capfd.readouterr().out == "in the caller's process\n"
    assert study.logs(0) == ""


@pytest.fixture(scope="module")
def silent(home: Path) -> Iterator[str]:
    name = "silent-study"
    Orch(home).ok("create", name, "--objective", "quadratic", "--trials", "1")
    yield name


@pytest.mark.parametrize("verb", [["logs"], ["logs", "-f"], ["show", "--trial"]])
def test_an_unknown_study_or_trial_is_said_in_one_line(
    orch: Orch, silent: str, verb: list[str]
) -> None:
    word, *option = verb
    assert "no study 'none'" in orch.refused(1, word, "none", *option, "7")
    line = orch.refused(1, word, silent, *option, "7")
    assert line == f"orch: study '{silent}' has no trial 7; it has 0 trials"
    assert "TRIAL" in orch.refused(2, "logs", silent, "first")
