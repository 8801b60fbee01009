"""What the tests of engines stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_site import Site


@pytest.fixture
def site(open_path: Path) -> Iterator[Site]:
    """Engines take no embedded server, whoever starts it; this one is named by its URL."""
    made = Site(open_path / "home")
    made.storage = made.server.ensure_running()
    yield made
    made.server.stop()
