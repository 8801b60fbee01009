"""What the tests of faults stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fault_site import OwnServer


@pytest.fixture
def site(open_path: Path) -> Iterator[OwnServer]:
    made = OwnServer(open_path / "home")
    yield made
    for process in psutil.process_iter(["environ", "name"]):
        mine = (process.info["environ"] or {}).get("ORCH_HOME") == str(made.home)
        if mine and "postgres" not in process.info["name"]:
            process.kill()
    made.server.stop()
