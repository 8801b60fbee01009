"""Keywords: a spec as the arguments of a Python call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.spec.durations import parse_duration
from orchestrator.spec.model import StudySpec

# Where a keyword of its own stands in the spec.
_PLACES = {
    "name": ("study", "name"),
    "objective": ("study", "objective"),
    "metric": ("study", "metric"),
    "direction": ("study", "direction"),
    "trials": ("study", "trials"),
    "timeout": ("study", "timeout"),
    "constraints": ("study", "constraints"),
    "warm_start": ("study", "warm_start"),
    "note": ("study", "note"),
    "epochs": ("training", "epochs"),
    "folds": ("training", "folds"),
    "repeats": ("training", "repeats"),
    "seed": ("training", "seed"),
    "data": ("data", "name"),
}
# A keyword that is a whole table; the first three may also be a name.
_TABLES = {
    "sampler": "sampler",
    "pruner": "pruner",
    "terminator": "terminator",
    "training": "training",
    "data_options": "data",
    "options": "objective",
    "worker": "worker",
    "space": "space",
}
_STRATEGIES = {"sampler", "pruner", "terminator"}


def spec_of(base: StudySpec | None, keywords: Mapping[str, Any]) -> StudySpec:
    """The spec that a spec and keywords write together; keywords win.

    Args:
        base: a spec; None: there is none.
        keywords: those of ``create_study``; None is as good as not given.

    Raises:
        UsageError: names the key, what is wrong with it, and the nearest known name.
    """
    document = {} if base is None else base.model_dump(mode="json", exclude_unset=True)
    given = {key: value for key, value in keywords.items() if value is not None}
    for key, table in _TABLES.items():
        if key in given:
            value = given[key]
            written = {"name": value} if key in _STRATEGIES and isinstance(value, str) else value
            if not isinstance(written, Mapping):
                raise UsageError(f"{key} must be a table, e.g. {_example(key)}")
            document[table] = {**document.get(table, {}), **written}
    for key, (table, name) in _PLACES.items():
        if key in given:
            document.setdefault(table, {})[name] = _plain(key, given[key])
    study = document.get("study", {})
    if "name" not in study and "objective" in study:
        study["name"] = StudySpec.default_name(study["objective"])
    return StudySpec.parse(document)


def seconds_of(timeout: float | str | None) -> float | None:
    """The seconds of a time limit, as ``90`` or ``"30m"``; None: none.

    Raises:
        UsageError: it is not a duration.
    """
    if timeout is None:
        return None
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if key == "data" and not isinstance(value, str):
        if not isinstance(value, Path):
            raise UsageError("data must be a name, a PATH.npz, or package.module:function here")
        return str(value)
    return value


def _example(key: str) -> str:
    name = '{"name": "tpe"}' if key in _STRATEGIES else '{"KEY": VALUE}'
    return f"{key}={name}"
