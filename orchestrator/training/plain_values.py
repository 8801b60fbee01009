"""Python values as JSON and arrays, without pickle: what a callback's attributes usually are.

Plain are None, booleans, numbers, strings, arrays, tensors, variables, random generators, and
lists, tuples, sets, deques and dictionaries of them.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.training.data import Array

_DEEPEST = 20  # a list may hold itself


class NotPlain(Exception):
    """A value that cannot be stored without pickle."""


@dataclass(frozen=True)
class _Kind:
    """How a value of one type is taken apart into plain ones, and put together again.

    Attributes:
        name: the key in the JSON.
        parts: of a value.
        join: a value of its parts, and of the value that stands in its place now.
    """

    name: str
    parts: Callable[[Any], list[Any]]
    join: Callable[[list[Any], Any], Any]


def encode(value: Any, name: str) -> tuple[Any, dict[str, Array]]:
    """The value as JSON has it, and the arrays in it, whose names begin with ``name``.

    Raises:
        NotPlain: it has other values in it.
    """
    arrays: dict[str, Array] = {}

    def keep(array: Array) -> str:
        if array.dtype.hasobject:
            raise NotPlain
        arrays[f"{name}/{len(arrays)}"] = array
        return next(reversed(arrays))

    return _encode(value, keep, 0), arrays


def decode(encoded: Any, arrays: Mapping[str, Array], current: Any = None) -> Any:
    """The reverse of :func:`encode`.

    Args:
        encoded: what that returned.
        arrays: those by their names.
        current: the value in its place; changed and returned where it is of its type and mutable,
            because others may hold it, too.
    """
    if isinstance(encoded, list):
        return _LIST.join([decode(each, arrays) for each in encoded], current)
    if not isinstance(encoded, dict):
        return encoded
    [(name, content)] = encoded.items()
    if name in _OF_ARRAYS:
        return _OF_ARRAYS[name](arrays[content], current)
    return _BY_NAME[name].join([decode(each, arrays) for each in content], current)


def _encode(value: Any, keep: Callable[[Array], str], depth: int) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return {"scalar": keep(np.asarray(value))}
    if type(value) is np.ndarray:
        return {"array": keep(value)}
    if _is_variable(value):
        return {"variable": keep(np.array(value.numpy()))}
    if _is_tensor(value):
        return {"tensor": keep(_as_array(value))}
    kind = _KINDS.get(type(value))
    if kind is None or depth == _DEEPEST:
        raise NotPlain
    parts = [_encode(each, keep, depth + 1) for each in kind.parts(value)]
    if kind.name.endswith("set"):
        parts.sort(key=json.dumps)  # the order of a set is another in each process
    return parts if kind is _LIST else {kind.name: parts}


def _is_variable(value: Any) -> bool:
    return any(
        isinstance(value, sys.modules[name].Variable)
        for name in ("keras", "tensorflow")
        if name in sys.modules
    )


def _is_tensor(value: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and keras.ops.is_tensor(value)


def _as_array(tensor: Any) -> Array:
    import keras

    try:
        return np.array(keras.ops.convert_to_numpy(tensor))
    except Exception:  # a symbolic one has no value
        raise NotPlain from None


def _as_tensor(array: Array) -> Any:
    import keras

    return keras.ops.convert_to_tensor(array)


def _join_list(parts: list[Any], current: Any) -> list[Any]:
    if type(current) is not list:
        return parts
    current[:] = parts
    return current


def _join_dictionary(parts: list[Any], current: Any) -> Any:
    if type(current) not in _DICTIONARIES:
        return dict(parts)
    current.clear()  # a defaultdict stays one
    current.update(dict(parts))
    return current


def _assign(array: Array, current: Any) -> Any:
    current.assign(array)
    return current


def _set_generator(parts: list[Any], current: Any) -> Any:
    current.bit_generator.state = parts[0]
    return current


def _set_legacy(parts: list[Any], current: Any) -> Any:
    current.set_state(parts[0])
    return current


def _set_random(parts: list[Any], current: Any) -> Any:
    current.setstate(parts[0])
    return current


_OF_ARRAYS: dict[str, Callable[[Array, Any], Any]] = {
    "array": lambda array, _: np.array(array),
    "scalar": lambda array, _: array[()],
    "variable": _assign,
    "tensor": lambda array, _: _as_tensor(array),
}
_LIST = _Kind("list", list, _join_list)
_DICTIONARY = _Kind("dict", lambda value: [list(pair) for pair in value.items()], _join_dictionary)
_DICTIONARIES = (dict, defaultdict, OrderedDict, Counter)
_KINDS: dict[type, _Kind] = {
    list: _LIST,
    tuple: _Kind("tuple", list, lambda parts, _: tuple(parts)),
    set: _Kind("set", list, lambda parts, _: set(parts)),
    frozenset: _Kind("frozenset", list, lambda parts, _: frozenset(parts)),
    deque: _Kind(
        "deque",
        lambda value: [value.maxlen, *value],
        lambda parts, _: deque(parts[1:], parts[0]),
    ),
    np.random.Generator: _Kind(
        "generator", lambda value: [value.bit_generator.state], _set_generator
    ),
    np.random.RandomState: _Kind(
        "legacy", lambda value: [value.get_state(legacy=False)], _set_legacy
    ),
    random.Random: _Kind("random", lambda value: [value.getstate()], _set_random),
    **dict.fromkeys(_DICTIONARIES, _DICTIONARY),
}
_BY_NAME = {kind.name: kind for kind in _KINDS.values()}
