"""A study pins its code and its versions: who has others is refused, or is named in the report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.doctor import examine_study
from orchestrator.resolve.pins import differences, software_here, software_of
from orchestrator.storage.database import Database, script

_OBJECTIVE = "def objective(trial):\n    return trial.suggest_float('x', 0, {high})\n"


@pytest.fixture
def tuned(orch: Orch, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of an objective in a file of the user's."""
    monkeypatch.chdir(tmp_path)
    module = tmp_path / f"mine_{name.replace('-', '_')}.py"
    module.write_text(_OBJECTIVE.format(high=1))
    orch.ok("create", name, "--objective", f"{module.stem}:objective", "--trials", "1")
    return module


def test_a_changed_source_is_refused_and_when_allowed_reported(
    orch: Orch, database: Database, url: str, name: str, tuned: Path
) -> None:
    tuned.write_text(_OBJECTIVE.format(high=2))
    refusal = orch.refused(1, "worker", name)
    assert "the objective's source differs" in refusal
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
    mismatches = orch.report(name)["mismatches"]
    assert len(mismatches) == 1 and "source differs" in mismatches[0]


def test_a_different_version_is_refused_in_one_line(
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


def test_a_local_module_imported_by_the_objective_is_pinned_too(
    orch: Orch, database: Database, url: str, name: str, tuned: Path
) -> None:
    helper = tuned.with_name(f"{tuned.stem}_helper.py")
    helper.write_text("HIGH = 1\n")
    tuned.write_text(f"from {helper.stem} import HIGH\n" + _OBJECTIVE.format(high="HIGH"))
    study = f"{name}-two"
    orch.ok("create", study, "--objective", f"{tuned.stem}:objective", "--trials", "1")

    helper.write_text("HIGH = 2\n")
    refusal = orch.refused(1, "worker", study)
    assert f"the module {helper.stem} differs" in refusal and "source" not in refusal
    # A study of an orch that pinned no modules is not refused.
    database.execute(
        "UPDATE study_user_attributes SET value_json = (value_json::jsonb - %(key)s)::text "
        "FROM studies WHERE studies.study_id = study_user_attributes.study_id "
        "AND key = 'orch:software' AND study_name = %(study)s",
        {"study": study, "key": f"module {helper.stem}"},
    )
    assert all(each.ok for each in examine_study(url, study))


def _pinned(objective: str) -> set[str]:
    return {key for key in software_of(objective) if key.startswith("module ")}


def test_a_module_that_a_data_function_imports_is_pinned_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    for path, text in {
        "train.py": "import shared",
        "shared.py": "",
        "lab/flow.py": "import windows",
        "lab/windows.py": "import shared\nSIZE = 10",
    }.items():
        (tmp_path / path).write_text(text)
    data = {"name": "./lab/flow.py:data", "pinned_by": "the source of flow"}
    pinned = software_of("train:objective", data)
    assert {key for key in pinned if "module" in key} == {"module shared", "data module windows"}
    assert differences(pinned, software_here("train:objective", pinned, data)) == ""
    (tmp_path / "lab" / "windows.py").write_text("SIZE = 20")
    assert differences(pinned, software_here("train:objective", pinned, data)) == (
        "the data module windows differs"
    )
    # Arrays are compared by themselves.
    arrays = {**data, "pinned_by": "arrays"}
    assert "data module windows" not in software_of("train:objective", arrays)


def test_local_modules_are_found_transitively_without_running_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for path, text in {
        "lab/__init__.py": "raise RuntimeError('this was run')",
        "lab/train.py": "from . import layers\nfrom lab.deep.parts import relu\nimport lab.train",
        "lab/layers.py": "def build():\n    import beside, numpy, json",
        "lab/deep/__init__.py": "",
        "lab/deep/parts.py": "from .. import optimisers as o\nfrom ..layers import build",
        "lab/optimisers.py": "this is no Python",
        "lab/unused.py": "",
        "beside.py": "",
        "unused.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    within = {f"module {each}" for each in ("lab", "lab.layers", "lab.deep", "lab.deep.parts", "lab.optimisers")}  # fmt: skip
    assert _pinned("lab.train:objective") == within | {"module beside"}

    pinned = software_of("lab.train:objective")
    (tmp_path / "lab" / "unused.py").write_text("x = 1")
    assert differences(pinned, software_here("lab.train:objective", pinned)) == ""
    (tmp_path / "lab" / "deep" / "parts.py").unlink()
    (tmp_path / "beside.py").write_text("x = 1")
    assert differences(pinned, software_here("lab.train:objective", pinned)) == (
        "the module beside differs, the module lab.deep.parts is not to be found here"
    )

    assert differences({f"module {each}": "" for each in "abcdef"}, {}).endswith(", and 2 more")

    # What is installed beside it has versions; the rest of its own package is pinned all the same.
    installed = tmp_path / "site-packages"
    installed.mkdir()
    for each in ("lab", "beside.py"):
        (tmp_path / each).rename(installed / each)
    monkeypatch.syspath_prepend(str(installed))
    assert _pinned("lab.train:objective") == {"module lab", "module lab.deep", "module lab.layers"}


def test_the_pins_name_the_packages_and_the_source_without_importing_them() -> None:
    pins = software_of("mnist")
    assert {
        "orch",
        "optuna",
        "keras",
        "tensorflow",
        "source",
        "module orchestrator.training.keras",
    } <= set(pins)
    assert software_of("kt:hypermodels:build_model").get("source") is not None
    assert "source" not in software_of("nowhere:function")


def test_a_study_with_a_built_in_objectives_old_module_name_continues(
    orch: Orch, database: Database, name: str
) -> None:
    """Schema 6 pinned the files of the package ``objectives``, which is gone."""
    orch.ok("create", name, "--objective", "quadratic", "--trials", "2")
    database.execute(
        "UPDATE study_user_attributes a SET value_json = (value_json::jsonb || %(old)s)::text "
        "FROM studies s WHERE s.study_id = a.study_id AND a.key = 'orch:software' AND study_name = %(name)s",
        {
            "name": name,
            "old": '{"source": "1f", "module objectives": "2e", "module objectives.base": "3d"}',
        },
    )
    assert "objectives.base is not to be found here" in orch.refused(1, "worker", name)
    database.execute(script("migrations/6_to_7.after_data.sql"))
    orch.ok("resume", name, "--workers", "1")
    assert orch.report(name)["mismatches"] == []
