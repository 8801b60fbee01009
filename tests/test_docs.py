"""Every command that a page shows works as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.spec.model import StudySpec
from orchestrator.storage.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent
# The whole searches of the article take minutes; tests/test_examples.py runs them made smaller.
NOT_RUN = {"docs/results.md"}


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)


@pytest.fixture
def fresh(open_path: Path) -> Iterator[Orch]:
    yield Orch(open_path / "home")
    EmbeddedServer(open_path / "home").stop()


def pages_with_commands() -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [str(page.relative_to(ROOT)) for page in pages]
    return [name for name in names if name not in NOT_RUN and blocks("sh", name)]


def write_files(page: str) -> None:
    """The files that a page shows, under their titles."""
    for title, text in re.findall(
        r'^```\w+ title="([^"]+)"\n(.*?)^```', (ROOT / page).read_text(), re.S | re.M
    ):
        Path(title).write_text(text)


@pytest.mark.parametrize("page", pages_with_commands())
def test_the_commands_of_a_page_run_in_order(
    fresh: Orch,
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if page == "docs/tutorial.md":
        request.getfixturevalue("mnist")
    monkeypatch.chdir(tmp_path)  # some write files
    write_files(page)
    lines = [line for block in blocks("sh", page) for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    commands = [words for words in commands if words and words[0] in ("orch", "python")]
    assert commands
    for command in commands:
        if command[0] == "python":
            subprocess.run([sys.executable, *command[1:]], check=True)
            continue
        ended = fresh(*command[1:], timeout=600)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_spec_file_of_the_readme_is_valid() -> None:
    assert blocks("toml")
    for block in blocks("toml"):
        StudySpec.parse(tomllib.loads(block))
