"""Creator: a process that stores the studies of all trainings, so that TensorFlow is loaded once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import traceback
from typing import Any

from created import create
from declared import FOLDER


class Creator:
    """The process; it begins with the first study.

    Args:
        environment: its variables.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {**environment, "PYTHONPATH": f"{FOLDER.parent}:{FOLDER}"}
        self._process: subprocess.Popen[str] | None = None

    def create(
        self, keywords: dict[str, Any], queue: list[dict[str, Any]], variables: dict[str, str]
    ) -> None:
        """A study whose first trials have the configurations of the queue.

        Args:
            keywords: of ``create_study``.
            queue: the configurations.
            variables: of the environment, for this study.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                cwd=FOLDER, env=self._environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([keywords, queue, variables]) + "\n")
        self._process.stdin.flush()
        error = json.loads(self._process.stdout.readline())
        assert error is None, error

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()


def main() -> None:
    """Store a study for each line of the standard input; answer with null, or what went wrong."""
    answers = sys.stdout
    for line in sys.stdin:
        keywords, queue, variables = json.loads(line)
        os.environ.update(variables)
        error = None
        with contextlib.redirect_stdout(sys.stderr):
            try:
                create(keywords, queue)
            except Exception:
                error = traceback.format_exc()
        _forget_policy()
        print(json.dumps(error), file=answers, flush=True)


def _forget_policy() -> None:
    """As in a new process: a training may have set how precise Keras is."""
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.backend.clear_session()
        keras.config.set_dtype_policy("float32")


if __name__ == "__main__":
    main()
