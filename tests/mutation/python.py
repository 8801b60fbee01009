"""mutmut on the files that ``pyproject.toml`` names, with one server for all its runs.

    python tests/mutation/python.py                                # all; goes on where it stopped
    python tests/mutation/python.py 'orchestrator.worker.claim.*'  # of one module

``mutmut results`` lists the survivors afterwards, ``mutmut show NAME`` one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator.storage.embedded import EmbeddedServer


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="orch-mutation-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder))
        server.ensure_running()
        try:
            # Not two at once: mutants that hang would fill the server's connections.
            command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *sys.argv[1:]]
            done = subprocess.run(
                command, env={**os.environ, "ORCH_TEST_HOME": folder}, check=False
            )
        finally:
            server.stop()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
