"""The SQL of this project, by name, from the ``.sql`` files beside this package."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def statements() -> dict[str, str]:
    """Each query of the files of queries under the name in its heading."""
    found: dict[str, str] = {}
    for name in ("queries.sql", "optuna.sql", "pins.sql"):
        parts = _HEADING.split(script(name))
        found |= {key: text.strip() for key, text in zip(parts[1::2], parts[2::2], strict=True)}
    return found


def script(name: str) -> str:
    """A whole ``.sql`` file."""
    return resources.files("orchestrator.storage").joinpath("sql", name).read_text("utf-8")
