"""What a study pins: a worker with other data or other software must not take part."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import StudyFailed
from orchestrator.resolve.objective import pin_data
from orchestrator.software import differences, software_here
from orchestrator.storage.database import Database
from orchestrator.study import StoredStudy
from orchestrator.training.base import Objective


def check_data(study: StoredStudy, objective: Objective) -> None:
    """Compare this machine's data with the study's.

    Raises:
        StudyFailed: they differ; the message says in what.
    """
    compare_data(study, pin_data(objective))


def compare_data(study: StoredStudy, here: Mapping[str, Any] | None) -> None:
    """Compare the facts of this machine's data with the study's.

    Raises:
        StudyFailed: they differ; the message says in what.
    """
    pinned = study.data
    if here == pinned:
        return
    differences = _differences(pinned or {}, here or {})
    raise StudyFailed(
        f"this machine's data are not those of study '{study.name}' ({differences}); "
        "bring the same file here, or name it in ORCH_MNIST"
    )


def _differences(pinned: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    def short(value: object) -> str:
        return f"{value[:12]}…" if isinstance(value, str) and len(value) > 40 else str(value)

    return "; ".join(
        f"{key}: study {short(pinned.get(key))}, here {short(here.get(key))}"
        for key in sorted(pinned.keys() | here.keys())
        if pinned.get(key) != here.get(key)
    )


def compare_software(database: Database, study: StoredStudy) -> str:
    """In what this machine's software is not that of the study, in words; empty: in nothing."""
    row = database.row("read_software", study_id=study.study_id)
    if row is None:
        return ""  # the study is of an older orch
    pinned = row["software"]
    return differences(pinned, software_here(study.spec.study.objective, pinned))


def check_software(database: Database, study: StoredStudy, allow: bool) -> str:
    """Compare this machine's code and versions with those that the study was made with.

    Args:
        allow: take part even if they differ; see :func:`record_mismatch`.

    Returns:
        In what they differ, where that is allowed; empty: in nothing.

    Raises:
        StudyFailed: they differ; the message says in what.
    """
    different = compare_software(database, study)
    if different and not allow:
        raise StudyFailed(
            f"this machine's software is not that of study '{study.name}' ({different}); install "
            f"the same, or take part all the same with: orch worker {study.name} --allow-mismatch"
        )
    return different


def record_mismatch(database: Database, study: StoredStudy, mismatch: str) -> None:
    """Keep in the study how the software of a machine that takes part differs; reports say it."""
    machine = f"{socket.gethostname()}: {mismatch}"
    database.rows("record_mismatch", study_id=study.study_id, mismatch=machine)
