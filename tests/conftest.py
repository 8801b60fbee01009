"""What the tests stand on: the installed ``orch``, and a real PostgreSQL in a temporary home."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from orchestrator.report.reader import summarise
from orchestrator.report.render import render
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.schema import prepare
from orchestrator.storage.studies import open_study

_numbers = itertools.count()


@dataclass
class Orch:
    """Runs the installed command as a user would."""

    home: Path
    storage: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        environment = {
            **os.environ,
            "ORCH_HOME": str(self.home),
            "COLUMNS": "80",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        environment.pop("ORCH_STORAGE", None)
        if self.storage is not None:
            environment["ORCH_STORAGE"] = self.storage
        return environment

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / "orch"), *arguments]

    def __call__(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ok(self, *arguments: str, timeout: float = 300) -> str:
        done = self(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def report(self, name: str) -> dict[str, Any]:
        """A study's report as data: what ``orch report --format json`` prints.

        Made in this process, as most tests ask for one: a process for each would take a tenth of
        the whole run. ``tests/report`` holds the command to the same.
        """
        database = Database(self.storage or EmbeddedServer(self.home).ensure_running())
        with patch.dict(os.environ, {"ORCH_HOME": str(self.home)}):
            summary = summarise(database, open_study(database, name), thorough=True)
        database.close()
        parsed: dict[str, Any] = json.loads(render(summary, "json"))
        return parsed

    def refused(self, code: int, *arguments: str) -> str:
        """The one line of an expected error."""
        done = self(*arguments)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("orch: "), done.stderr
        return lines[0]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that a server's own system user can reach.

    Not pytest's: the next pytest on this machine would close its parent to other users.
    """
    folder = Path(tempfile.mkdtemp(prefix="orch-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """See :func:`open_folder`."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """An ``ORCH_HOME`` whose server the whole test session shares, or many sessions one after
    the other: mutation testing names it in ``ORCH_TEST_HOME``."""
    given = os.environ.get("ORCH_TEST_HOME")
    if given:
        yield Path(given)
        return
    with open_folder() as folder:
        yield folder
        EmbeddedServer(folder).stop()


@pytest.fixture
def orch(home: Path) -> Orch:
    return Orch(home)


@pytest.fixture(scope="session")
def url(home: Path) -> str:
    """The session's server."""
    return EmbeddedServer(home).ensure_running()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    prepare(opened)
    yield opened
    opened.close()


@pytest.fixture
def name() -> str:
    """A study name of the test's own: the server is shared."""
    # With other sessions too, where one is given; some of them may have ended badly.
    session = f"{os.getpid()}-" if "ORCH_TEST_HOME" in os.environ else ""
    return f"study-{session}{next(_numbers)}"


@pytest.fixture
def mnist() -> str:
    """The real MNIST; without it the test is skipped."""
    path = os.environ.get("ORCH_MNIST")
    if not path:
        pytest.skip("needs the real MNIST: set ORCH_MNIST to its mnist.npz")
    return path
