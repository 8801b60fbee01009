"""A long call into C at the default heartbeat and grace period; ``make long`` runs it."""

from __future__ import annotations

import optuna
import pytest
from conftest import Orch

from orchestrator.storage.rdb_storage import make_rdb_storage as rdb_storage

BUSY_SECONDS = 75


def test_a_c_call_holding_the_gil_for_75_seconds_keeps_its_trial(
    orch: Orch, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSY_SECONDS", str(BUSY_SECONDS))
    objective = "leaving_objectives:keeps_python_to_itself"
    orch.ok("create", name, "--objective", objective, "--trials", "6")
    orch.ok("enqueue", name, "--params", "x=0.1")
    # The other worker claims all the while, and would take back what is lost.
    orch.ok("resume", name, "--workers", "2", timeout=500)
    trials = optuna.load_study(study_name=name, storage=rdb_storage(url)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    (busy,) = (trial for trial in trials if trial.value == 0.1)
    assert busy.user_attrs["seconds in C"] > 60, "longer than the grace period"
