"""orch watch: what happens elsewhere, as it happens."""

from __future__ import annotations

from conftest import Orch
from report.studies import store

from orchestrator.storage.database import Database
from orchestrator.storage.studies import stop


def test_watch_follows_a_study_run_elsewhere_and_prints_its_report(orch: Orch, name: str) -> None:
    orch.ok("create", name, "--objective", "quadratic", "--trials", "4")
    watching = orch.start("watch", name)
    orch.ok("worker", name)
    report, lines = watching.communicate(timeout=120)
    assert watching.returncode == 0, lines
    assert "4/4 trials" in lines and "best value" in lines
    assert report.startswith(f"Study {name}") and "Trials 4 of 4" in report


def test_a_study_that_was_stopped_has_nothing_to_watch(
    orch: Orch, stored: Database, name: str
) -> None:
    stop(stored, store(stored, name, []))
    assert "No trial has run yet" in orch.ok("watch", name, timeout=120)
