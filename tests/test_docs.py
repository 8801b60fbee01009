"""Every command that the README shows works as it stands."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.spec import StudySpec
from orchestrator.storage.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)


@pytest.fixture
def fresh(open_path: Path) -> Iterator[Orch]:
    yield Orch(open_path / "home")
    EmbeddedServer(open_path / "home").stop()


@pytest.mark.parametrize(
    "page", ["README.md", "docs/strategies.md", "docs/reports.md", "docs/deploy.md"]
)
def test_the_commands_of_a_page_run_in_their_order(
    fresh: Orch, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    lines = [line for block in blocks("sh", page) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("orch ")]
    assert len(commands) >= 8
    for command in commands:
        ended = fresh(*command[1:], timeout=600)
        # The doctor also answers 1: where MNIST is not to be had it names the mend.
        assert ended.returncode == 0 or command[1] == "doctor", (command, ended.stderr)


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_spec_file_of_the_readme_is_valid() -> None:
    for block in blocks("toml"):
        StudySpec.parse(tomllib.loads(block))
