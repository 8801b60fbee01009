"""What PostgreSQL can store of an objective: values, steps, logs, names, attributes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.base.printed import clip
from orchestrator.errors import WrongUse

_log = logging.getLogger("orch")

LARGEST_STEP = 2**31 - 1  # Optuna stores steps as PostgreSQL's integer
LONGEST_NAME = 512  # of a parameter or attribute in Optuna's tables
_LARGEST_ATTRIBUTE = 64 * 2**20  # characters of JSON; PostgreSQL's jsonb ends at four times that
# PostgreSQL's text has no NUL; a lone surrogate is half a character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

Logs = dict[tuple[int, str], float]  # what a trial logs, by step and name


def check_name(name: str) -> None:
    """Refuse a name that Optuna's tables in PostgreSQL cannot hold.

    Raises:
        TypeError: it is not a string.
        ValueError: it is too long, or has a character that is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name {name!r} is a {type(name).__name__}; it must be a string")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"the name {name[:40]!r}… has {len(name)} characters; at most {LONGEST_NAME} can be "
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


def logs_document(logs: Logs) -> list[list[Any]]:
    """What was logged, a row for each step, as ``orch.store`` takes it.

    Args:
        logs: values by step and name.
    """
    rows: dict[int, list[Any]] = {}
    for (step, name), value in logs.items():
        _, names, values = rows.setdefault(step, [step, [], []])
        names.append(name)
        values.append(repr(value))  # PostgreSQL reads nan and inf as well; JSON has neither
    return list(rows.values())


def logs_from(document: list[list[Any]], last: int) -> Logs:
    """The reverse of :func:`logs_document`.

    Args:
        document: the rows.
        last: later steps are left out.
    """
    return {
        (step, name): float(value)
        for step, names, values in document
        for name, value in zip(names, values, strict=True)
        if step <= last
    }


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


_LONGEST_SHOWN = 200  # what an objective returns by mistake may be a whole data set
_MOST_ELEMENTS = 100  # a metric may be an array with a value for each class, not a whole matrix


def as_values(returned: Any, count: int) -> list[float]:
    """The values, one for each metric.

    Args:
        returned: a number, or a sequence of numbers.
        count: how many metrics the study has.

    Raises:
        TypeError: it is something else.
        WrongUse: the study has another number of metrics.
    """
    numbers = list(returned) if isinstance(returned, Sequence) else [returned]
    try:
        if isinstance(returned, str):  # a sequence, too
            raise TypeError
        values = [float(number) for number in numbers]
    except (TypeError, ValueError):
        shown = clip(repr(returned), _LONGEST_SHOWN)
        raise TypeError(f"the objective returned {shown}; it must return a number") from None
    if len(values) != count:
        raise WrongUse(
            f"the objective returned {len(values)} values, and the study has {count} metrics; "
            "name one study.metric and study.direction for each"
        )
    return values


def as_value(value: Any) -> float:
    """A reported value.

    Raises:
        TypeError: it is not a number.
    """
    try:
        return float(value)
    except (TypeError, ValueError):  # in Optuna's words
        raise TypeError(
            f"The `value` argument is of type '{type(value)}' but supposed to be a float."
        ) from None


def as_step(step: Any) -> int:
    """The step of a reported value.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is negative, or more than the database can store.
    """
    try:
        whole = int(step)
    except (TypeError, ValueError):
        raise TypeError(
            f"The `step` argument is of type '{type(step)}' but supposed to be an int."
        ) from None
    if whole < 0:
        raise ValueError(f"`step={whole}` must be non-negative.")
    check_step(whole)
    return whole


def as_logs(metrics: Mapping[str, Any], step: Any) -> Logs:
    """What an objective logs of a step.

    An array or a sequence is logged element by element, and a mapping by its keys: ``f1/0``,
    ``f1/1``. A name is cut to what can be stored.

    Raises:
        TypeError: it is not a mapping, or a value is not a number.
        ValueError: the step is negative, or more than the database can store.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"what is logged is of type '{type(metrics)}' but supposed to be a mapping of names "
            "to numbers"
        )
    whole = as_step(step)
    return {
        (whole, name): value
        for key, given in metrics.items()
        for name, value in _named_numbers(clean(str(key))[:LONGEST_NAME], given)
    }


def _named_numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _named_numbers(clean(f"{name}/{key}")[:LONGEST_NAME], each)
        return
    try:
        if not getattr(value, "ndim", 0) and not isinstance(value, list | tuple):
            yield name, float(value)
            return
        elements = np.asarray(value, np.float64).ravel().tolist()
    except (TypeError, ValueError, OverflowError):
        shown = clip(repr(value), _LONGEST_SHOWN)
        raise TypeError(f"the value logged as {name!r} is {shown}; it must be a number") from None
    if len(elements) > _MOST_ELEMENTS:
        _log.warning(
            "%r is not logged: it has %d elements, and at most %d of a name are kept",
            name, len(elements), _MOST_ELEMENTS,
        )  # fmt: skip
    elif len(elements) == 1:
        yield name, elements[0]
    else:
        yield from ((f"{name[: LONGEST_NAME - 4]}/{n}", each) for n, each in enumerate(elements))
