"""optuna-dashboard in a real browser."""

from __future__ import annotations

import re
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from browser import opened, rendered
from conftest import Orch

from orchestrator.storage.rdb_storage import make_rdb_storage


@pytest.fixture
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium (Debian package chromium)")
    return path


@contextmanager
def dashboard(orch: Orch) -> Iterator[str]:
    """The dashboard's address, while it is served."""
    server = orch.start("dashboard", "--port", "0")
    assert server.stderr is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", server.stderr.readline())
    assert found is not None
    try:
        yield found[0]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=20)


@pytest.fixture
def served(orch: Orch, name: str) -> Iterator[str]:
    """The dashboard's address, with one study of five trials in it."""
    orch.ok("run", "quadratic", "--study", name, "--trials", "5", "--workers", "1")
    with dashboard(orch) as address:
        yield address


def test_the_dashboard_shows_the_study_and_its_trials(
    served: str, chromium: str, tmp_path: Path, name: str
) -> None:
    rendered(chromium, f"{served}dashboard", tmp_path, name)
    with urllib.request.urlopen(f"{served}api/studies", timeout=20) as answer:
        listing = answer.read().decode()
    number = re.search(rf'"study_id": (\d+), "study_name": "{name}"', listing)
    assert number is not None, listing
    page = rendered(chromium, f"{served}dashboard/studies/{number[1]}/trials", tmp_path, "Trial 4")
    assert all(f"Trial {each}" in page for each in range(5))


@pytest.fixture
def digits(orch: Orch, name: str, url: str, tmp_path: Path) -> int:
    """A study with a kept model, a failed and a pruned trial, a note and pictures; its id."""
    orch.ok(
        "run", "digits", "--study", name, "--trials", "2", "--epochs", "1", "--workers", "1",
        "--set", "study.note='# My plan'",
    )  # fmt: skip
    study = optuna.load_study(study_name=name, storage=make_rdb_storage(url))
    for state in (optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        trial.report(0.1, 1)
        trial.set_user_attr("mine", "first line\nsecond line")
        trial.set_constraint("memory", 1.0)
        study.tell(trial, state=state)
    orch.ok("predict", name, "--count", "4", "--out", str(tmp_path / "digits.png"))
    return study._study_id


@pytest.mark.usefixtures("chromium")
def test_every_dashboard_page_of_a_digits_study_opens_without_an_error(
    orch: Orch, digits: int, name: str, tmp_path: Path
) -> None:
    best = orch.report(name)["best"]["number"]
    pages = {
        "": f"Best Trial (number={best})",
        "/analytics": "Contour",
        "/trials": "Trial 3",
        f"/trials?numbers={best}": "model.keras",
        "/trials?numbers=2": "mine first line\nsecond line",
        "/trials?numbers=3": "Trial 3",
        "/smartSelection": "Trial",
        "/note": "My plan",
    }
    with dashboard(orch) as address, opened(tmp_path / "profile") as page:
        for path, wanted in pages.items():
            page.open(f"{address}dashboard/studies/{digits}{path}")
            page.text(wanted)
            assert (page.errors(), page.refusals()) == ([], []), path


def test_the_dashboard_listens_only_on_localhost_and_names_a_used_port(
    served: str, orch: Orch
) -> None:
    port = served.rstrip("/").rsplit(":", 1)[1]
    listening = Path("/proc/net/tcp").read_text()
    address = f"0100007F:{int(port):04X}"  # 127.0.0.1 as the kernel writes it
    assert address in listening and f"00000000:{int(port):04X}" not in listening
    assert "--port" in orch.refused(1, "dashboard", "--port", port)
