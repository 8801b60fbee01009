"""The changes that CONTRIBUTING.md shows apply to the code as it is, and do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Orch

ROOT = Path(__file__).parents[2]


@dataclass
class Changed(Orch):
    """The command of the changed copy."""

    source: Path = ROOT

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(self.source)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator", *arguments]


@pytest.fixture(scope="module")
def changed(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changed]:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    source = tmp_path_factory.mktemp("changed")
    for package in ("orchestrator", "objectives"):
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shown = re.findall(r"^```diff\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.S | re.M)
    assert len(shown) == 3
    for change in shown:
        subprocess.run(
            ["git", "apply", "-"], cwd=source, input=change, text=True, check=True,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(source.parent)},
        )  # fmt: skip
    yield Changed(home, source=source)


@pytest.fixture(autouse=True)
def _in_the_copy(changed: Changed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(changed.source)  # python -m looks there first


def test_the_sampler_that_contributing_adds_draws(changed: Changed, name: str) -> None:
    changed.ok("run", "quadratic", "--study", name, "--sampler", "nsga3", "--trials", "3",
               "--workers", "1")  # fmt: skip
    assert "nsga3" in changed.ok("report", name, "--format", "json")
    assert "population_siz" in changed.refused(
        2, "create", f"{name}x", "--objective", "quadratic", "--sampler", "nsga3",
        "--set", "sampler.population_siz=3",
    )  # fmt: skip


def test_the_data_set_that_contributing_adds_is_pinned(changed: Changed, name: str) -> None:
    changed.ok("create", name, "--objective", "digits", "--data", "iris")
    shown = changed.ok("show", name)
    assert "iris" in shown and "100" in shown


def test_the_launcher_that_contributing_adds_has_its_command(changed: Changed) -> None:
    script = changed.ok("launch", "pbs", "mlp", "--workers", "3", "--cpus", "2", "--dry-run")
    assert "#PBS -J 1-3" in script and "exec orch worker mlp --processes 1" in script
    assert "qstat is not on this machine" in changed.refused(2, "launch", "status", "pbs", "mlp")
