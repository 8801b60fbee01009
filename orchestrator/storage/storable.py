"""What PostgreSQL can store of what an objective hands over, and the rest made storable."""

from __future__ import annotations

import json
import re
from typing import Any

LARGEST_STEP = 2**31 - 1  # Optuna stores steps as PostgreSQL's integer
_LONGEST_NAME = 512  # of a parameter or attribute in Optuna's tables
_LARGEST_ATTRIBUTE = 64 * 2**20  # characters of JSON; PostgreSQL's jsonb ends at four times that
# PostgreSQL's text has no NUL; a lone surrogate is half a character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_name(name: str) -> None:
    """Refuse a name that Optuna's tables in PostgreSQL cannot hold.

    Raises:
        TypeError: it is not a string.
        ValueError: it is too long, or has a character that is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name {name!r} is a {type(name).__name__}; it must be a string")
    if len(name) > _LONGEST_NAME:
        raise ValueError(
            f"the name {name[:40]!r}… has {len(name)} characters; at most {_LONGEST_NAME} can be "
            "stored"
        )
    if _UNSTORABLE.search(name):
        raise ValueError(f"the name {name!r} has a NUL or a lone surrogate, which cannot be stored")


def check_step(step: int) -> None:
    """Refuse a step that Optuna's tables in PostgreSQL cannot hold.

    Raises:
        ValueError: it is too large.
    """
    if step > LARGEST_STEP:
        raise ValueError(f"step must be at most {LARGEST_STEP}, but it is {step}")


def attribute_json(key: str, value: Any) -> str:
    """An attribute's value as JSON; see :func:`to_json`.

    Raises:
        TypeError: the key is not a string, or the value has no JSON.
        ValueError: the key or the value is too long, or the key has a character that is none.
    """
    check_name(key)
    try:
        text = to_json(value)
    except TypeError as error:
        raise TypeError(f"attribute {key!r}: {error}") from None
    except ValueError as error:
        raise ValueError(f"attribute {key!r}: {error}") from None
    if len(text) > _LARGEST_ATTRIBUTE:
        raise ValueError(
            f"attribute {key!r} has {len(text) / 2**20:.0f} MiB as JSON; at most "
            f"{_LARGEST_ATTRIBUTE // 2**20} MiB can be stored (optuna.artifacts keeps files)"
        )
    return text


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
    raise TypeError(f"a {type(value).__name__} cannot be stored as JSON")
