"""What is printed can be encoded, and fits the terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.storage.embedded import EmbeddedServer

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C": C_LOCALE,
}


# Several commands in one process: starting it is most of the time that they take.
COMMANDS = """
import json, sys
from orchestrator.cli import terminal
terminal.make_encodable()
from orchestrator.cli.main import app
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
    print("\\f", end="")
"""
FORMS = ("json", "csv", "markdown", "html")


@pytest.fixture
def foreign(orch: Orch) -> str:
    """One study for all these tests, and one beside it, with names in other scripts."""
    if "foreign-signs" not in orch.ok("list"):
        for name, sampler in (("foreign-signs", "tpe"), ("foreign-signs-again", "random")):
            orch.ok(
                "run", "signs:value", "--study", name, "--trials", "24", "--workers", "1",
                "--sampler", sampler,
            )  # fmt: skip
    return "foreign-signs"


def several(commands: list[str]) -> list[str]:
    """The command line of a process that runs them all, one after the other."""
    return [sys.executable, "-c", COMMANDS, json.dumps([each.split() for each in commands])]


def printed(orch: Orch, encoding: str, command: list[str]) -> tuple[list[str], str]:
    """What each of several commands prints under that encoding, and standard error."""
    done = subprocess.run(
        command,
        env={**orch.environment, **ENCODINGS[encoding]},
        capture_output=True,
        timeout=300,
        check=False,
    )
    name = "ascii" if encoding == "C" else encoding
    stdout, stderr = done.stdout.decode(name), done.stderr.decode(name)
    assert done.returncode == 0, stderr
    assert "Traceback" not in stderr
    return stdout.split("\f"), stderr


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_verb_prints_plain_signs(orch: Orch, foreign: str, encoding: str) -> None:
    verbs = [f"report {foreign}", f"best {foreign} --top 3", f"show {foreign}", "list"]
    verbs += [f"watch {foreign}", f"compare {foreign} {foreign}-again", "space quadratic"]
    verbs += ["run --help", "compare --help", *(f"report {foreign} --format {f}" for f in FORMS)]
    pages, _ = printed(orch, encoding, several(verbs))
    found = dict(zip(verbs, pages, strict=False))
    assert len(pages) == len(verbs) + 1 and all(found.values())
    json_form, page = (found[f"report {foreign} --format {form}"] for form in ("json", "html"))
    assert "учёба" in json.loads(json_form)["best"]["params"], "JSON stays whole"
    assert page.isascii() and "&#1091;&#1095;" in page
    if encoding == "ascii":
        report = found[f"report {foreign}"]
        assert "\\u0443" in report, "a name in another script"
        plot = report.partition("the line is the best\n")[2].partition("\n\n")[0].splitlines()
        assert len(plot) == 8 and all(" |" in line for line in plot)
        assert any(":" in line or "." in line for line in plot)
        assert "asha, median, none, ..." in found["run --help"]


@pytest.mark.parametrize("encoding", ["ascii", "C"])
def test_a_run_whose_names_the_terminal_cannot_encode_succeeds(
    orch: Orch, name: str, encoding: str
) -> None:
    command = ["run", "signs:value", "--study", name, "--trials", "2", "--workers", "1"]
    (stdout,), stderr = printed(orch, encoding, orch.command(*command))
    assert "Trials 2 of 2" in stdout and "2/2 trials" in stderr


def test_files_are_utf_8_whatever_the_terminals_encoding(
    orch: Orch, foreign: str, tmp_path: Path
) -> None:
    files = {form: tmp_path / f"report.{form}" for form in ("text", *FORMS)}
    verbs = [f"report {foreign} --format {form} --out {out}" for form, out in files.items()]
    printed(orch, "C", several(verbs))
    for out in files.values():
        assert "учёба" in out.read_text(encoding="utf-8")


class Terminal:
    """A pseudo-terminal of that width, and what was written to it."""

    def __init__(self, columns: int) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self._parts.append(os.read(self._ours, 65536))
            except OSError:
                return

    def close(self) -> str:
        os.close(self.theirs)
        self._reader.join(timeout=30)
        os.close(self._ours)
        return b"".join(self._parts).decode()


def shown(
    orch: Orch, columns: int, commands: list[str], folder: Path | None = None
) -> tuple[list[str], str]:
    """The lines that a terminal of that width is sent, and standard error."""
    terminal = Terminal(columns)
    environment = {k: v for k, v in orch.environment.items() if k not in ("COLUMNS", "LINES")}
    done = subprocess.run(
        several(commands), env=environment, stdout=terminal.theirs, timeout=300, check=False,
        stderr=subprocess.PIPE, cwd=folder,
    )  # fmt: skip
    lines = terminal.close().replace("\f", "").splitlines()
    assert done.returncode == 0, done.stderr.decode()
    return lines, done.stderr.decode()


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_nothing_is_wider_than_the_terminal(
    orch: Orch, foreign: str, name: str, columns: int
) -> None:
    failed = orch(
        "run", "quadratic", "--study", name, "--workers", "1", "--trials", "2",
        "--set", "objective.failure_rate=1", "--set", "worker.max_retries=0",
        "--set", "worker.max_failures=1",
    )  # fmt: skip
    assert failed.returncode == 1, "its reason stands below the list"
    verbs = [f"report {foreign}", "list", f"compare {foreign} {foreign}-again"]
    lines, _ = shown(orch, columns, verbs)
    assert lines and [line for line in lines if len(line) > columns] == []
    plots = [line for line in lines if "┤" in line]
    assert len(plots) == 8 + 6 and max(map(len, plots)) <= min(columns, 80)
    assert f"{name}: 1 configuration failed" in " ".join(lines)
    if columns == 40:  # a table that does not fit has its rows below their names
        assert f"study {foreign}" in lines and any("budget 24" in line for line in lines)
    assert any(line.startswith("study  ") for line in orch.ok("list").splitlines()), "piped, whole"


def test_an_html_page_is_not_printed_into_a_terminal(
    orch: Orch, foreign: str, tmp_path: Path
) -> None:
    verbs = [f"report {foreign} --format html"]
    verbs.append(f"compare {foreign} {foreign}-again --format html")
    lines, stderr = shown(orch, 80, verbs, tmp_path)
    assert lines == []
    assert stderr.splitlines() == [f"{foreign}.html is written", "compare.html is written"]
    for name in (foreign, "compare"):
        assert (tmp_path / f"{name}.html").read_text().startswith("<!doctype html>")


def test_the_live_display_shows_every_metric(orch: Orch, name: str) -> None:
    stderr = orch(
        "run", "signs:two", "--study", name, "--metric", "loss", "--metric", "size",
        "--direction", "minimize", "--direction", "maximize", "--trials", "3", "--workers", "1",
    ).stderr  # fmt: skip
    lines = stderr.splitlines()
    ended = [line for line in lines if line.startswith("trial ")]
    assert len(ended) == 3 and all("loss " in line and ", size " in line for line in ended)
    report = orch.report(name)
    losses = {t["values"][0]: t["number"] for t in report["trials"]}
    sizes = {t["values"][1]: t["number"] for t in report["trials"]}
    loss, size = min(losses), max(sizes)
    # A line may know of a trial that ends while it is made; the next then has nothing new to say.
    assert stderr.rpartition("; best ")[2].splitlines()[0] == (
        f"loss {loss:.5g} (trial {losses[loss]}), size {size:.5g} (trial {sizes[size]})"
    )


@pytest.fixture
def ascii_home(open_path: Path) -> Iterator[Orch]:
    yield Orch(open_path / "home")
    EmbeddedServer(open_path / "home").stop()


def test_a_server_created_in_the_c_locale_stores_every_script(ascii_home: Orch) -> None:
    command = ["run", "signs:value", "--study", "s", "--trials", "1", "--workers", "1"]
    printed(ascii_home, "C", ascii_home.command(*command))
    assert "учёба=" in ascii_home.ok("best", "s")


@pytest.mark.parametrize(("level", "said"), [(None, ""), ("1", "WARNING:tensorflow:traced anew\n")])
def test_a_command_repeats_tensorflows_warnings_only_where_the_user_set_its_level(
    level: str | None, said: str
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    if level is not None:
        environment["TF_CPP_MIN_LOG_LEVEL"] = level
    script = (
        "from orchestrator.cli.terminal import quieten_tensorflow\n"
        "quieten_tensorflow()\n"
        "import tensorflow as tf\n"
        "tf.get_logger().warning('traced anew')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == said
