"""A user's own files, whatever they are called, are what their objective imports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Orch

OBJECTIVE = "def f(trial):\n    return trial.suggest_float('x', 0, 1)\n"


class Folder(Orch):
    """The command as a user gives it in a folder of theirs."""

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        environment.pop("PYTHONPATH")
        return environment


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(home)


def runs(folder: Folder, objective: str, name: str) -> None:
    output = folder.ok("run", objective, "--study", name, "--trials", "2", "--workers", "1")
    assert "Trials 2 of 2:" in output
    folder.ok("delete", name, "--yes")


@pytest.mark.parametrize(
    "path",
    [
        "objectives.py",
        "data.py",
        "utils.py",
        "test.py",
        "objectives/mine.py",
        "test/mine.py",
    ],
)
def test_an_objective_is_found_whatever_its_file_is_called(
    folder: Folder, name: str, path: str
) -> None:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    if path == "test/mine.py":  # without it, Python's own package `test` goes first everywhere
        Path("test/__init__.py").touch()
    file.write_text(OBJECTIVE)
    runs(folder, f"{path.removesuffix('.py').replace('/', '.')}:f", name)


def test_an_objective_imports_the_users_modules_first(folder: Folder, name: str) -> None:
    for each in ("objectives", "data", "utils", "test"):
        Path(f"{each}.py").write_text("mine = True\n")
    Path("orchestrator.py").write_text("raise RuntimeError('nobody imports this')\n")
    Path("study.py").write_text(
        "import objectives, data, utils, test\n"
        "from orchestrator.objective import Objective\n"
        "def f(trial):\n"
        "    import orchestrator\n"
        "    assert objectives.mine and data.mine and utils.mine and test.mine\n"
        "    assert hasattr(orchestrator, '__path__')\n"
        "    return trial.suggest_float('x', 0, 1)\n"
    )
    runs(folder, "study:f", name)


def test_built_in_objectives_work_beside_files_of_the_same_name(folder: Folder, name: str) -> None:
    ours = ("mnist", "digits", "cnn", "quadratic", "network", "objectives", "orchestrator")
    for each in (*ours, "random"):
        Path(f"{each}.py").write_text("raise RuntimeError('nobody imports this')\n")
    runs(folder, "quadratic", name)


def test_a_user_file_named_like_our_package_is_refused(folder: Folder) -> None:
    Path("orchestrator.py").write_text("def f(trial): return 1.0\n")
    line = folder.refused(2, "run", "orchestrator:f", "--study", "clash")
    assert line == (
        "orch: module orchestrator has no 'f'; orchestrator is the name of orch's own package: "
        "rename your orchestrator.py"
    )
    Path("mine.py").write_text("from orchestrator import g\n")
    line = folder.refused(2, "run", "mine:f", "--study", "clash")
    assert line.endswith(
        "; orchestrator is the name of orch's own package: rename your orchestrator.py"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from objectives.base import Objective", "; objectives is orchestrator.objective now"),
        ("import orchestrator.training.nothing", "No module named 'orchestrator.training.nothing'"),
    ],
)
def test_an_outdated_import_names_its_replacement(folder: Folder, line: str, words: str) -> None:
    Path("old.py").write_text(f"{line}\n{OBJECTIVE}")
    assert folder.refused(2, "run", "old:f", "--study", "old").endswith(words)


def test_an_outdated_import_beside_a_users_objectives_py_names_its_replacement(
    folder: Folder,
) -> None:
    Path("objectives.py").write_text(f"from objectives.base import Objective\n{OBJECTIVE}")
    assert folder.refused(2, "run", "objectives:f", "--study", "old").endswith(
        "; objectives.base is orchestrator.objective now"
    )


def test_a_script_is_given_by_path_and_imports_its_neighbours(folder: Folder, name: str) -> None:
    Path("scripts/lab").mkdir(parents=True)
    Path("scripts/high.py").write_text("HIGH = 1\n")
    Path("scripts/train.py").write_text(
        "from high import HIGH\n"
        "def f(trial):\n    import high\n    return trial.suggest_float('x', 0, high.HIGH)\n"
    )
    runs(folder, "./scripts/train.py:f", name)
    Path("scripts/lab/__init__.py").touch()
    Path("scripts/lab/parts.py").write_text("HIGH = 1\n")
    Path("scripts/lab/train.py").write_text(f"from .parts import HIGH\n{OBJECTIVE}")
    runs(folder, "scripts/lab/train.py:f", name)
    Path("random.py").write_text(OBJECTIVE)
    assert folder.refused(2, "run", "random.py:f").endswith(
        "random.py has the name of a module that Python uses; rename the file"
    )
    assert "there is no file missing.py" in folder.refused(2, "run", "missing.py:f")


def test_a_changed_module_beside_a_script_is_refused(folder: Folder, name: str) -> None:
    Path("scripts").mkdir()
    Path("scripts/high.py").write_text("HIGH = 1\n")
    Path("scripts/train.py").write_text(f"from high import HIGH\n{OBJECTIVE}")
    folder.ok("create", name, "--objective", "scripts/train.py:f", "--trials", "1")
    Path("scripts/high.py").write_text("HIGH = 2\n")
    assert "the module high differs" in folder.refused(1, "worker", name)


def test_a_script_sees_none_of_our_arguments_and_its_prints_corrupt_no_output(
    folder: Folder, name: str
) -> None:
    Path("script.py").write_text(
        "import argparse, sys\n"
        "print('loading the data')\n"
        "arguments = argparse.ArgumentParser().parse_args()\n"
        "assert sys.argv == ['script'], sys.argv\n"
        "def f(trial):\n"
        "    print('training')\n"
        "    assert sys.argv == ['script'], sys.argv\n"
        "    return trial.suggest_float('x', 0, 1)\n"
    )
    folder.ok("run", "script:f", "--study", name, "--trials", "2", "--workers", "1")
    assert "loading the data" not in folder.ok("space", "script:f")
    json.loads(folder.ok("confirm", name, "--top", "1", "--seeds", "2", "--format", "json"))
    folder.ok("delete", f"{name}-confirm", "--yes")


@pytest.mark.parametrize("attribute", ["Bowl", "bowl", "bowl.of", "Bowl.plain"])
def test_an_object_a_method_and_a_class_are_objectives_too(
    folder: Folder, name: str, attribute: str
) -> None:
    Path("bowls.py").write_text(
        "class Bowl:\n"
        "    def __call__(self, trial):\n        return self.of(trial)\n"
        "    def of(self, trial):\n        return trial.suggest_float('x', 0, 1)\n"
        "    @staticmethod\n"
        "    def plain(trial):\n        return trial.suggest_float('x', 0, 1)\n"
        "class Sized:\n"
        "    def __init__(self, size):\n        self.size = size\n"
        "    def __call__(self, trial):\n        return 1.0\n"
        "bowl = Bowl()\n"
    )
    runs(folder, f"bowls:{attribute}", name)
    line = folder.refused(2, "run", "bowls:Sized")
    assert "is a class that needs arguments" in line and "make an object of it" in line
