"""What the tests of engines stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_site import OwnServer


@pytest.fixture
def site(open_path: Path) -> Iterator[OwnServer]:
    """Engines take no embedded server, whoever starts it; this one is named by its URL."""
    made = OwnServer(open_path / "home")
    made.storage = made.server.ensure_running()
    yield made
    made.server.stop()
