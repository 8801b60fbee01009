"""optuna-dashboard in a real browser."""

from __future__ import annotations

import re
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import rendered
from conftest import Orch


@pytest.fixture
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium (Debian package chromium)")
    return path


@pytest.fixture
def served(orch: Orch, name: str) -> Iterator[str]:
    """The dashboard's address, with one study of five trials in it."""
    orch.ok("run", "quadratic", "--study", name, "--trials", "5", "--workers", "1")
    server = orch.start("dashboard", "--port", "0")
    assert server.stderr is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", server.stderr.readline())
    assert found is not None
    yield found[0]
    server.send_signal(signal.SIGINT)
    server.wait(timeout=20)


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


def test_the_dashboard_listens_on_this_machine_alone_and_names_a_taken_port(
    served: str, orch: Orch
) -> None:
    port = served.rstrip("/").rsplit(":", 1)[1]
    listening = Path("/proc/net/tcp").read_text()
    address = f"0100007F:{int(port):04X}"  # 127.0.0.1 as the kernel writes it
    assert address in listening and f"00000000:{int(port):04X}" not in listening
    assert "--port" in orch.refused(1, "dashboard", "--port", port)
