"""What a study pins: a worker with other data must not take part."""

from __future__ import annotations

from typing import Any

from objectives.base import Objective
from orchestrator.errors import StudyFailed
from orchestrator.resolve import pin_data
from orchestrator.study import StoredStudy


def check_data(study: StoredStudy, objective: Objective) -> None:
    """Compare this machine's data with the study's.

    Raises:
        StudyFailed: they differ; the message says in what.
    """
    here, pinned = pin_data(objective), study.data
    if here == pinned:
        return
    differences = _differences(dict(pinned or {}), here or {})
    raise StudyFailed(
        f"this machine's data are not those of study '{study.name}' ({differences}); "
        "bring the same file here, or name it in ORCH_MNIST"
    )


def _differences(pinned: dict[str, Any], here: dict[str, Any]) -> str:
    def short(value: object) -> str:
        return f"{value[:12]}…" if isinstance(value, str) and len(value) > 40 else str(value)

    return "; ".join(
        f"{key}: study {short(pinned.get(key))}, here {short(here.get(key))}"
        for key in sorted(pinned.keys() | here.keys())
        if pinned.get(key) != here.get(key)
    )
