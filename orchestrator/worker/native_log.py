"""What TensorFlow writes into a worker's log: which of it is shown to the user.

Its C++ parts write news of their start before they look at ``TF_CPP_MIN_LOG_LEVEL``, on every
machine, so that level is kept here. Its Python part warns of each network that it traces anew, as
every trial has one, and the levels of loggers are the objective's own affair. The log itself stays
whole: it is the record of a process that dies.
"""

from __future__ import annotations

import os
import re

_LINE = re.compile(r"(?:\d{4}-\d\d-\d\d [\d:.]+: )?([IWEF])(?:\d{4} [\d:.]+ +\d+)? \S+:\d+\] ")
_PREAMBLE = "WARNING: All log messages before absl::InitializeLog()"
_PYTHON_WARNING = "WARNING:tensorflow:"
_SEVERITIES = "IWEF"  # the level is how many of them are silent
_DEFAULT_LEVEL = "2"


def shown(text: str, has_gpu: bool) -> str:
    """The lines that the level lets through.

    Args:
        text: whole lines.
        has_gpu: the process was given a GPU; without one, that CUDA does not start is no error.
    """
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", _DEFAULT_LEVEL)
    silent = _SEVERITIES[: int(level)] if level.isdigit() else ""

    def is_shown(line: str) -> bool:
        native = _LINE.match(line)
        if native is None:
            is_preamble = bool(silent) and line.startswith(_PREAMBLE)
            return not (is_preamble or ("W" in silent and line.startswith(_PYTHON_WARNING)))
        expected = "failed call to cuInit" in line and not has_gpu and bool(silent)
        return native[1] not in silent and not expected

    return "".join(filter(is_shown, text.splitlines(keepends=True)))
