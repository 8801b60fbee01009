"""What optuna-dashboard's own code answers for a study, without a port."""

from __future__ import annotations

import json
from typing import Any
from wsgiref.util import setup_testing_defaults

from orchestrator.serve.dashboard import _application


def study_detail(url: str, study_id: int) -> dict[str, Any]:
    """What the page of a study asks for."""
    answer: dict[str, Any] = json.loads(served(url, f"/api/studies/{study_id}"))
    return answer


def served(url: str, path: str) -> bytes:
    """The body of a GET; its status is below 400."""
    environment: dict[str, Any] = {}
    setup_testing_defaults(environment)
    environment["PATH_INFO"] = path
    statuses: list[str] = []
    body = b"".join(
        _application(url)(environment, lambda status, *headers: statuses.append(status))
    )
    assert statuses[0] < "4", (path, statuses, body)
    return body
