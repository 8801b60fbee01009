"""How an objective is found, and the direction of its metric."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Orch

from objectives.base import Objective, default_direction, find, known


def test_the_built_in_objectives_are_known() -> None:
    assert {"mnist", "digits", "quadratic"} <= set(known())
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
        ("value", "minimize"),
    ],
)
def test_the_direction_follows_from_the_metric(metric: str, direction: str) -> None:
    assert default_direction(metric) == direction


def test_a_package_of_the_users_own_adds_an_objective(tmp_path: Path, home: Path) -> None:
    """As an installed distribution would: a module and its entry point."""
    (tmp_path / "my_bowls.py").write_text(
        "from objectives.quadratic import Quadratic\nclass Bowl(Quadratic): pass\n"
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
