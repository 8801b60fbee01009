"""The caller's process: what a study does in it, and what it leaves as it was."""

from __future__ import annotations

import logging
import os
import pty
import random
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Orch

from orchestrator import Study, create_study, load_study
from orchestrator.storage.database import Database
from orchestrator.storage.studies import open_study

SCRIPT = """
import orchestrator as orch, sys, time

def slow(trial):
    time.sleep(0.05)
    return trial.suggest_float("x", 0, 1)

study = orch.create_study(sys.argv[1], objective=slow, trials=200, pruner="none")
try:
    study.run(workers=2)
except KeyboardInterrupt:
    print(*sorted({trial.state.name for trial in study.trials}), "after the interrupt")
"""


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_script_in_a_terminal_shows_a_bar_and_is_interrupted(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    (tmp_path / "tune.py").write_text(SCRIPT)
    keyboard, terminal = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "tune.py", name], cwd=tmp_path, env={**orch.environment, "TERM": "xterm"},
        stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    os.close(terminal)
    _read_until(keyboard, "trial 3 COMPLETE")
    os.write(keyboard, b"\x03")
    screen = _read_until(keyboard, "after the interrupt")
    assert running.wait(timeout=60) == 0
    os.close(keyboard)
    assert "━" in screen and "given back after their epoch or step" in screen
    assert "RUNNING" not in screen and "FAIL" not in screen


def _read_until(terminal: int, words: str) -> str:
    screen = ""
    while words not in screen:
        assert select.select([terminal], [], [], 60)[0], screen
        try:
            screen += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # the script has ended
            pytest.fail(screen)
    return screen


def state_of_process() -> dict[str, Any]:
    loggers = [logging.getLogger(), logging.getLogger("optuna"), logging.getLogger("orch")]
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    return {
        "environment": dict(os.environ),
        "path": list(sys.path),
        "arguments": list(sys.argv),
        "folder": os.getcwd(),
        "signals": [signal.getsignal(each) for each in handled],
        "loggers": [(each.level, each.handlers[:], each.disabled) for each in loggers],
        "filters": list(warnings.filters),
        "random": (random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()),
        "errors": np.geterr(),
    }


def test_a_study_leaves_the_callers_process_as_it_was(url: str, name: str, tmp_path: Path) -> None:
    def use(each: str) -> None:
        study = create_study(each, "quadratic", storage=url, trials=2, pruner="none")
        study.run(workers=1, progress=False)
        study.add_budget(1)
        study.run(workers=0, progress=False)
        study.replay(0)
        study.confirm(top=1, seeds=2, workers=1, progress=False)
        study.report(tmp_path / "report.html")
        assert study._repr_html_().startswith("<iframe")
        study.search_space()

    use(name)  # what others do when they are first imported is not ours
    before = state_of_process()
    use(f"{name}-again")
    after = state_of_process()
    for key, value in before.items():
        assert after[key] == value, key


def test_run_may_be_called_from_any_thread(url: str, name: str) -> None:
    study = create_study(name, "quadratic", storage=url, trials=3, pruner="none")
    found: list[str] = []

    def work() -> None:
        found.append(study.run(workers=1, progress=False).state)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["done"]


def test_after_a_fork_the_child_has_a_connection_of_its_own(url: str, name: str) -> None:
    study = create_study(name, "quadratic", storage=url, trials=2, pruner="none")
    assert study.state == "open"
    child = os.fork()
    if child == 0:
        try:
            study.add_budget(3)
            os._exit(0 if study.spec.study.trials == 5 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert study.spec.study.trials == 5, "the parent's connection still works"


def test_an_error_in_on_trial_ends_the_run_and_releases_its_trials(url: str, name: str) -> None:
    study = create_study(
        name, "quadratic", storage=url, trials=60, pruner="none", options={"sleep": 0.05}
    )

    def fails(trial: object) -> None:
        raise LookupError("of the caller")

    with pytest.raises(LookupError, match="of the caller"):
        study.run(workers=2, progress=False, on_trial=fails)
    assert "RUNNING" not in {trial.state.name for trial in study.trials}
    assert study.state == "open"


@pytest.fixture
def shown(url: str, name: str) -> Callable[[], str]:
    study = create_study(name, "quadratic", storage=url, trials=2, pruner="none")
    study.run(workers=1, progress=False)
    return lambda: load_study(name, storage=url)._repr_html_()


def test_a_notebook_shows_the_report_in_a_frame_without_scripts(shown: Callable[[], str]) -> None:
    page = shown()
    assert page.startswith('<iframe sandbox srcdoc="') and page.count("<") == 2
    assert len(page.encode()) <= 200_000 and "2 complete" in page
    assert "&lt;script" not in page


def test_the_notebook_view_of_a_large_study_stays_under_200_kb(
    url: str, name: str, database: Database
) -> None:
    study = create_study(name, "quadratic", storage=url, trials=5000, pruner="none")
    study_id = open_study(database, name).study_id
    database.execute(
        "INSERT INTO trials (study_id, number, state, datetime_start, datetime_complete) "
        "SELECT %(study_id)s, n, 'COMPLETE', now(), now() FROM generate_series(0, 3000) n",
        {"study_id": study_id},
    )
    database.execute(
        "INSERT INTO trial_values (trial_id, objective, value, value_type) "
        "SELECT trial_id, 0, number * 0.37, 'FINITE' FROM trials WHERE study_id = %(study_id)s",
        {"study_id": study_id},
    )
    page = study._repr_html_()
    assert len(page.encode()) <= 200_000 and "&lt;svg" in page and "3001 complete" in page


def test_a_study_that_cannot_be_read_prints_one_line_without_its_password(
    url: str, name: str
) -> None:
    create_study(name, "quadratic", storage=url, trials=2).close()
    from orchestrator.storage.database import Database

    study = Study(Database("postgresql://orch:secret-word@127.0.0.1:1/orch"), name)
    page = study._repr_html_()
    assert "cannot be shown" in page and "secret-word" not in page
    assert "secret-word" not in repr(study) and "secret-word" not in study.storage
