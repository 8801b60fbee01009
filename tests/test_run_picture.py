"""docs/run.svg, which the README shows, is what orch prints today.

After a change of what ``orch run`` prints, ``ORCH_REWRITE=1 pytest tests/test_run_picture.py`` writes
it anew.
"""

from __future__ import annotations

import html
import io
import os
import re
from pathlib import Path

import pytest
from conftest import Orch
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parent.parent / "docs" / "run.svg"
# With TPE: auto chooses by how long trials take, which differs from machine to machine.
COMMAND = [
    "run", "quadratic", "--study", "demo", "--trials", "12", "--workers", "1", "--seed", "5",
    "--sampler", "tpe",
]  # fmt: skip
COLUMNS = 84
# What differs from run to run, with what the picture has in its place. All are of equal length.
_VARYING = [
    (r"in \d+\.\d s on", "in 1.2 s on"),
    (r"^(\s*\d+ +\S+ +)\d+\.\d ", r"\g<1>0.1 "),
    (r"^\S+:\d+ +(\d+) +\d+ %  \d+\.\d s ago", r"laptop:4711     \1   95 %  0.4 s ago"),
    (r"^worker +trials", "worker      trials"),
    (r", about [^,;]+ left", ""),
]


def picture(text: str) -> str:
    """The SVG of a terminal that shows the text."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system=None
    )
    console.print(Text(text), soft_wrap=True)
    return console.export_svg(title="orch run quadratic", unique_id="orch")


def words(svg: str) -> list[str]:
    """The lines that a picture shows."""
    found = re.findall(r'<text class="orch-r\d+"[^>]*>(.*?)</text>', svg)
    return [html.unescape(line).replace("\xa0", " ").rstrip() for line in found]


def normalised(text: str) -> str:
    """The same text for each run of the same study."""
    for pattern, replacement in _VARYING:
        text = re.sub(pattern, replacement, text, flags=re.M)
    return text


def test_the_documented_picture_shows_what_a_run_prints(orch: Orch, home: Path) -> None:
    if "demo " in orch.ok("list"):
        orch.ok("delete", "demo", "--yes")
    done = orch(*COMMAND)
    assert done.returncode == 0, done.stderr
    # Which trials end between two looks is chance: the plain lines are put one to a trial.
    lines = [re.sub(r"; \d+/12 trials.*", "", line) for line in done.stderr.splitlines()]
    shown = "\n".join(["$ orch " + " ".join(COMMAND), *lines, "", done.stdout.rstrip()])
    svg = picture(normalised(shown))
    if os.environ.get("ORCH_REWRITE"):
        PICTURE.write_text(svg, encoding="utf-8")
    if words(PICTURE.read_text(encoding="utf-8")) != words(svg):
        pytest.fail(
            "docs/run.svg is not what orch prints; write it anew with: "
            "ORCH_REWRITE=1 pytest tests/test_run_picture.py"
        )
