"""How an objective is found, and the direction of its metric."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.errors import ObjectiveError, UnknownObjective
from orchestrator.training.base import Objective, Settings
from orchestrator.training.metric_names import direction_of
from orchestrator.training.registry import find, known


def test_the_built_in_objectives_are_known() -> None:
    assert {"mnist", "digits", "cnn", "quadratic"} <= set(known())
    for name in known():
        assert issubclass(find(name), Objective)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val_accuracy", "maximize"),
        ("acc", "maximize"),
        ("auc", "maximize"),
        ("val_loss", "minimize"),
        ("mean_absolute_error", "minimize"),
        ("val_label_accuracy", "maximize"),
        ("mean_io_u_1", "maximize"),
        ("val_total_loss", "minimize"),
        ("accuracy_loss", "minimize"),
        ("val_error_type_accuracy", "maximize"),  # of an output called error_type
        ("val_loss_given_default_auc", "maximize"),
        ("val_f1_score", "maximize"),
        ("score", "maximize"),
        ("val_brier_score", "minimize"),
        ("score_of_mine", None),
        ("value", None),
    ],
)
def test_name_of_a_metric_says_its_direction(metric: str, direction: str | None) -> None:
    assert direction_of(metric) == direction


def test_an_unknown_objective_suggests_the_nearest_name() -> None:
    with pytest.raises(UnknownObjective, match="did you mean 'mnist'"):
        find("mnits")


@pytest.mark.parametrize(
    ("source", "attribute", "words"),
    [
        ("import numpyy", "f", "cannot import .*No module named 'numpyy'"),
        ("def (:", "f", "cannot import .*SyntaxError"),
        ("raise SystemExit(3)", "f", "cannot import .*SystemExit"),
        ("def objective(trial): return 1.0", "objektive", "did you mean 'objective'"),
        ("f = None", "f", "cannot be called"),
    ],
)
def test_a_module_that_cannot_be_used_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, attribute: str, words: str
) -> None:
    name = f"users_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ObjectiveError, match=words) as caught:
        find(f"{name}:{attribute}")
    assert "\n" not in str(caught.value)


def test_a_function_receives_the_trial_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_identity.py").write_text("def same(trial): return trial\n")
    monkeypatch.syspath_prepend(tmp_path)
    trial = object()
    objective = find("users_identity:same")(Settings())
    assert objective(trial) is trial  # type: ignore[arg-type]
    assert (objective.space(), objective.steps(), objective.metrics) == ({}, None, ("value",))


def test_an_installed_package_can_add_an_objective(tmp_path: Path, home: Path) -> None:
    """As an installed distribution would: a module and its entry point."""
    (tmp_path / "my_bowls.py").write_text(
        "from orchestrator.training.builtin.quadratic import Quadratic\nclass Bowl(Quadratic): pass\n"
    )
    info = tmp_path / "my_bowls-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-bowls\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[orch.objectives]\nbowl = my_bowls:Bowl\n")

    class WithPackage(Orch):
        @property
        def environment(self) -> dict[str, str]:
            return {**super().environment, "PYTHONPATH": str(tmp_path)}

    orch = WithPackage(home)
    output = orch.ok("run", "bowl", "--study", "my-bowl", "--trials", "3", "--workers", "1")
    assert "Study my-bowl: bowl, value (minimize)" in output
    orch.ok("delete", "my-bowl", "--yes")
