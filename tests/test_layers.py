"""Imports run one way (DESIGN.md): import-linter's contracts in ``pyproject.toml`` hold it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_LINT = "from importlinter.cli import lint_imports_command as lint; lint()"

# Each in a place of its own: a file, what is added to it, and the line that must name it.
_WRONG = [
    (
        "orchestrator/search/plans/plan.py",
        "def late():\n    import orchestrator.storage.studies\n",
        "orchestrator.search.plans.plan -> orchestrator.storage.studies",
    ),
    (
        "orchestrator/spec/model.py",
        "if TYPE_CHECKING:\n    from orchestrator.storage.database import Database\n",
        "orchestrator.spec.model -> orchestrator.storage.database",
    ),
    (
        "orchestrator/report/text.py",
        "from ..worker import seeds\n",
        "orchestrator.report.text -> orchestrator.worker.seeds",
    ),
    ("orchestrator/newcomer.py", "", "newcomer"),
    (
        "orchestrator/report/numbers.py",
        "def late():\n    from orchestrator.training.registry import find\n",
        "orchestrator.report.numbers -> orchestrator.training.registry",
    ),
    (
        "objectives/quadratic.py",
        "from orchestrator.storage import url\n",
        "objectives.quadratic -> orchestrator.storage",
    ),
    (
        "orchestrator/training/registry.py",
        "from objectives.mnist import Mnist\n",
        "orchestrator.training.registry -> objectives.mnist",
    ),
    ("orchestrator/doctor.py", "import tensorflow.data\n", "orchestrator.doctor -> tensorflow"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_modules_import_only_allowed_layers() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The two packages, to be broken."""
    for package in ("orchestrator", "objectives"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_a_forbidden_import_is_named_wherever_it_occurs(copy: Path) -> None:
    for path, line, _ in _WRONG:
        with (copy / path).open("a") as file:
            file.write(line)
    done = lint(copy)
    assert done.returncode == 1
    for _, _, words in _WRONG:
        assert words in done.stdout, done.stdout
