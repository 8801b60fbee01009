"""The shell completes verbs and options, by the script that the command itself prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Orch

_COMPLETE = """
eval "$(orch --show-completion bash)"
COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
"$(complete -p orch | sed 's/.*-F \\([^ ]*\\).*/\\1/')" orch
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("orch re", {"report", "refit", "replay", "resume"}),
        ("orch db sta", {"start", "status"}),
        ("orch report --for", {"--format"}),
        ("orch report x --format h", {"html"}),
    ],
)
def test_bash_completes_commands_and_options(orch: Orch, line: str, expected: set[str]) -> None:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    folder = str(Path(orch.command()[0]).parent)
    path = f"{folder}:{orch.environment['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", _COMPLETE.format(line=line)],
        env={**orch.environment, "PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) == expected, done.stderr
