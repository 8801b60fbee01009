"""The lines that ``watched.Watch`` writes, read without importing Keras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def begun(path: Path) -> list[dict[str, Any]]:
    """The lines of the epochs that began."""
    return [line for line in read_log(path) if line["what"] == "begin"]
