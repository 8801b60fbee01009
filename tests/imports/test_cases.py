"""Sources that others made, where ``ORCH_CASES`` names their folder; skipped without it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from conftest import Orch

CASES = Path(os.environ.get("ORCH_CASES", "")) / "import"
pytestmark = pytest.mark.skipif(
    not (os.environ.get("ORCH_CASES") and CASES.is_dir()), reason="ORCH_CASES names no cases"
)


@pytest.mark.parametrize(("version", "exact"), [("2.10", "2.10.1"), ("3.6", "3.6.2")])
def test_a_storage_of_an_older_optuna_is_imported(
    orch: Orch, name: str, version: str, exact: str
) -> None:
    path = CASES / f"optuna-{version}.db"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    orch.ok("import", "optuna", f"sqlite:///{path}", name, "--study", "one")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    whole = orch.report(name)
    assert whole["imported"]["version"] == exact
    states = whole["states"]
    assert (states["failed"], states["running"], states["waiting"]) == (2, 0, 1)
    assert states["complete"] + states["pruned"] == 29
    assert [trial["number"] for trial in whole["trials"]] == list(range(32))
    assert all(trial["seconds"] for trial in whole["trials"] if trial["value"] is not None)
    orch.ok("import", "optuna", f"sqlite:///{path}", f"{name}-two", "--study", "two")
    assert orch.report(f"{name}-two")["direction"] == ["minimize", "maximize"]


def test_a_damaged_storage_is_refused_in_one_line(orch: Orch, name: str) -> None:
    message = orch.refused(1, "import", "optuna", str(CASES / "optuna-damaged.db"), name)
    assert "is damaged in table trial_user_attributes; nothing was written" in message


def test_projects_of_killed_and_diverged_searches_are_imported(orch: Orch, name: str) -> None:
    folder = CASES / "kerastuner-"
    done = orch("import", "kerastuner", f"{folder}one-empty", name)
    assert "trial_0001" in done.stderr and len(orch.report(name)["trials"]) == 3
    orch.ok("import", "kerastuner", f"{folder}nan-scores", f"{name}-nan")
    reasons = [trial["reason"] for trial in orch.report(f"{name}-nan")["trials"]]
    assert reasons.count("its score is NaN") == 2
    message = orch.refused(2, "import", "kerastuner", f"{folder}no-score", f"{name}-none")
    assert "no trial has a score" in message
    orch.ok("import", "kerastuner", f"{folder}hyperband", f"{name}-hyper")
    whole = orch.report(f"{name}-hyper")
    assert whole["epochs"]["trained"] == 12 and whole["best"]["epochs"] == 9
