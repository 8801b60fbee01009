"""orch on a server of its own, as long as a block runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A new ORCH_HOME for this process and those that it starts; its server ends with the block."""
    with tempfile.TemporaryDirectory(prefix="orch-benchmark-") as folder:
        Path(folder).chmod(0o755)
        os.environ["ORCH_HOME"] = folder
        os.environ.pop("ORCH_STORAGE", None)
        try:
            yield Path(folder)
        finally:
            orch("db", "stop")


def orch(*arguments: str) -> str:
    """Run a command of orch; what it prints."""
    command = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
