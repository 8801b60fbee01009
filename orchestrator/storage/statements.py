"""The SQL of this project, by name, from the ``.sql`` files beside this package."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def statements() -> dict[str, str]:
    """Each query of ``sql/queries.sql`` under the name in its heading."""
    parts = _HEADING.split(script("queries.sql"))
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def script(name: str) -> str:
    """A whole ``.sql`` file."""
    return resources.files("orchestrator.storage").joinpath("sql", name).read_text("utf-8")
