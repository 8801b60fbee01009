"""A study pins its code and its versions: who has others is refused, or is named in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.doctor import examine_study
from orchestrator.software import software_of
from orchestrator.storage.database import Database

_OBJECTIVE = "def objective(trial):\n    return trial.suggest_float('x', 0, {high})\n"


@pytest.fixture
def tuned(orch: Orch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of an objective in a file of the user's."""
    monkeypatch.chdir(tmp_path)
    module = tmp_path / f"mine_{name.replace('-', '_')}.py"
    module.write_text(_OBJECTIVE.format(high=1))
    orch.ok("create", name, "--objective", f"{module.stem}:objective", "--trials", "1")
    return module


def test_another_source_is_refused_then_allowed_and_reported(
    orch: Orch, database: Database, url: str, name: str, tuned: Path
) -> None:
    tuned.write_text(_OBJECTIVE.format(high=2))
    refusal = orch.refused(1, "worker", name)
    assert "the objective's source is another" in refusal
    assert f"orch worker {name} --allow-mismatch" in refusal
    assert [(each.subject, each.ok) for each in examine_study(url, name)] == [
        ("versions", False), ("data", True),
    ]  # fmt: skip

    # Windows line endings are no other source.
    tuned.write_bytes(_OBJECTIVE.format(high=1).encode().replace(b"\n", b"\r\n"))
    assert all(each.ok for each in examine_study(url, name))

    tuned.write_text(_OBJECTIVE.format(high=2))
    orch.ok("resume", name, "--workers", "1", "--allow-mismatch")
    assert orch.ok("report", name).count("Mixed  software on ") == 1
    mismatches = json.loads(orch.ok("report", name, "--format", "json"))["mismatches"]
    assert len(mismatches) == 1 and "source is another" in mismatches[0]


def test_another_version_is_refused_in_one_line(
    orch: Orch, database: Database, url: str, name: str
) -> None:
    orch.ok("create", name, "--objective", "digits", "--trials", "1", "--epochs", "1")
    database.execute(
        "UPDATE study_user_attributes SET value_json = jsonb_set(value_json::jsonb, '{optuna}', "
        "'\"4.9.1\"')::text FROM studies WHERE studies.study_id = study_user_attributes.study_id "
        "AND key = 'orch:software' AND study_name = %(name)s",
        {"name": name},
    )
    here = software_of("digits")["optuna"]
    assert f"optuna {here} instead of 4.9.1" in orch.refused(1, "worker", name)
    versions, data = examine_study(url, name)
    assert "4.9.1" in versions.text and not versions.ok and data.ok


def test_the_pins_name_the_packages_and_the_source_without_importing_them() -> None:
    pins = software_of("mnist")
    assert set(pins) == {"orch", "optuna", "keras", "tensorflow", "source"}
    assert software_of("kt:hypermodels:build_model").get("source") is not None
    assert "source" not in software_of("nowhere:function")
