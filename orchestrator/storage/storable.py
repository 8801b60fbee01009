"""What PostgreSQL can store of what an objective hands over, and the rest made storable."""

from __future__ import annotations

import json
import re
from typing import Any

LARGEST_STEP = 2**31 - 1  # Optuna stores steps as PostgreSQL's integer
_LONGEST_NAME = 512  # of a parameter or attribute in Optuna's tables
# PostgreSQL's text has no NUL; a lone surrogate is half a character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_name(name: str) -> None:
    """Refuse a name that Optuna's tables in PostgreSQL cannot hold.

    Raises:
        ValueError: it is too long, or has a character that is none.
    """
    if len(name) > _LONGEST_NAME:
        raise ValueError(
            f"the name {name[:40]!r}… has {len(name)} characters; at most {_LONGEST_NAME} can be "
            "stored"
        )
    if _UNSTORABLE.search(name):
        raise ValueError(f"the name {name!r} has a NUL or a lone surrogate, which cannot be stored")


def to_json(value: Any) -> str:
    """A value as JSON; arrays and scalars of NumPy as lists and numbers.

    Raises:
        TypeError: the value has no JSON.
    """
    return json.dumps(value, default=_plain)


def clean(value: Any) -> Any:
    """A JSON-able value with each character that PostgreSQL cannot store replaced by U+FFFD."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(key): clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    return value


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array or a scalar of NumPy, JAX or PyTorch
        return value.tolist()
    raise TypeError(f"an attribute of type {type(value).__name__} cannot be stored as JSON")
