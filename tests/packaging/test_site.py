"""The documentation as a site: it builds without a warning, asks nobody, and says what is so."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperCommand, TyperGroup

from orchestrator.cli.main import app
from orchestrator.spec.model import StudySpec

Verb = TyperCommand | TyperGroup
ROOT = Path(__file__).parents[2]
# What a browser fetches by itself; a link that a reader may follow is none of these.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link(?![^>]*rel=[\"']?canonical)[^>]*\shref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def text(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    assert _FETCHED.search('<link rel="stylesheet" href="https://fonts.example/css">')
    assert _FETCHED.search("<script src=//cdn.example/x.js>")
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 20
    fetched = {path.name: _FETCHED.findall(path.read_text()) for path in files}
    assert {name: found for name, found in fetched.items() if found} == {}


def test_the_reference_lists_every_command_and_option(site: Path) -> None:
    page = text(site / "reference" / "cli.html")
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    missing = [
        f"{path} {word}"
        for path, command in verbs(root, "orch")
        for word in [path, *options(command)]
        if word not in page
    ]
    assert missing == []
    assert page.count("Example: orch ") >= 30


def test_the_reference_explains_every_key_of_the_spec(site: Path) -> None:
    page = text(site / "reference" / "spec.html")
    for section, table in StudySpec.model_fields.items():
        assert f"[{section}]" in page
        for key, field in getattr(table.annotation, "model_fields", {}).items():
            assert field.description, f"{section}.{key} has no description"
            assert key in page
            assert field.description.replace("`", "") in page, f"{section}.{key}"
    assert '"10m"' in page and "n_ei_candidates" in page


def test_pages_link_to_the_code_that_they_mention(site: Path) -> None:
    page = (site / "explanation" / "budget.html").read_text()
    (link,) = set(re.findall(r'href="([^"]*/code/[^"]*)"', page))
    linked = (site / "explanation" / link).resolve()
    assert "claim" in linked.read_text() and site.resolve() in linked.parents


def test_the_citation_agrees_with_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
    assert citation["license"] == package["license"]
    assert citation["title"].startswith("orch:") and "orch" in package["scripts"]


def verbs(command: Verb, path: str) -> list[tuple[str, Verb]]:
    """Every verb under a command, with its whole name."""
    found: list[tuple[str, Verb]] = []
    for name, each in getattr(command, "commands", {}).items():
        whole = f"{path} {name}"
        found += verbs(each, whole) or [(whole, each)]
    return found


def options(command: Verb) -> list[str]:
    return [word for each in command.params for word in each.opts if word.startswith("--")]
