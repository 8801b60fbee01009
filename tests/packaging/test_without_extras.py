"""Nothing fails without TensorFlow, or without an extra's package, until it is really needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Orch

_BLOCKED = ("tensorflow", "keras", "grpc", "cryptography", "cmaes", "torch", "pyarrow")
# To Python's own finder these packages are not installed; it runs in the workers, too.
_BLOCKER = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {_BLOCKED}:
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
_FUNCTION = "def f(trial):\n    return trial.suggest_float('x', 0, 1)\n"


@dataclass
class Bare(Orch):
    """The command on a machine that has none of these packages."""

    blocker: Path = Path()

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(self.blocker)}


@pytest.fixture
def bare(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bare:
    (tmp_path / "sitecustomize.py").write_text(_BLOCKER)
    monkeypatch.chdir(tmp_path)
    return Bare(home, blocker=tmp_path)


def test_a_study_without_keras_runs_and_is_reported(bare: Bare, name: str, tmp_path: Path) -> None:
    bare.ok("run", "quadratic", "--study", name, "--trials", "3", "--workers", "1")
    (tmp_path / "train.py").write_text(_FUNCTION)
    bare.ok("run", "train.py:f", "--study", f"{name}f", "--trials", "2", "--workers", "1")
    page = tmp_path / "report.html"
    bare.ok("report", name, "--format", "html", "--out", str(page))
    assert "quadratic" in page.read_text()
    bare.ok("compare", name, f"{name}f")
    assert "units" in bare.ok("space", "mnist")
    line = bare.refused(2, "report", name, "--format", "parquet")
    assert line.endswith("needs pyarrow; pip install 'optuna-orchestrator[parquet]'")


def test_without_keras_a_keras_study_is_stored_and_its_worker_stops_with_one_line(
    bare: Bare, name: str
) -> None:
    bare.ok("create", name, "--objective", "digits", "--trials", "2", "--epochs", "1")
    done = bare("worker", name)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "orch: a Keras objective needs TensorFlow, which is not installed on this machine; "
        "pip install tensorflow"
    )
    report = bare.report(name)
    assert report["states"]["failed"] == 0 and report["trials"] == []


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("db", "proxy"), "proxy"),
        (("db", "serve", "--listen", "127.0.0.1"), "serve"),
        (("run", "quadratic", "--sampler", "cmaes"), "cmaes"),
        (("run", "quadratic", "--sampler", "gp"), "gp"),
    ],
)
def test_commands_without_their_extra_name_it_in_one_line(
    bare: Bare, command: tuple[str, ...], extra: str
) -> None:
    assert f"pip install 'optuna-orchestrator[{extra}]'" in bare.refused(2, *command)
