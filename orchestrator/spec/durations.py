"""Durations as people write them: ``90s``, ``30m``, ``2h``, ``1d``."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: object) -> float:
    """Seconds of ``"90s"``, ``"30m"``, ``"2h"``, ``"1d"`` or a plain number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", str(value))
    if match is None:
        raise ValueError(f"'{value}' is no duration; write 90s, 30m, 2h or a number of seconds")
    return float(match[1]) * _UNIT_SECONDS[match[2] or "s"]


def format_duration(seconds: float) -> str:
    """The shortest exact way to write ``seconds``: 7200 is ``"2h"``."""
    seconds = float(seconds)
    for unit in ("d", "h", "m"):
        count = seconds / _UNIT_SECONDS[unit]
        if count >= 1 and count.is_integer():
            return f"{int(count)}{unit}"
    return f"{int(seconds) if seconds.is_integer() else seconds!r}s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, json_schema_extra={"format": "duration"}),
    PlainSerializer(format_duration),
]
OptionalDuration = Annotated[
    Duration | None, BeforeValidator(lambda value: None if value == "none" else value)
]
