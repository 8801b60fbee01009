"""The state of Keras callbacks: the plain attributes that changed since their training began.

Nothing is pickled: plain values become JSON and arrays. These are None, booleans, numbers, strings,
arrays, tensors, variables, random generators, and lists, tuples, sets, deques and dictionaries of
them. What a callback holds besides (functions, files, models, objects of the user's own classes) is
not kept.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.training.arrays import unpack
from orchestrator.training.data import Array

# Keras sets them for each training; BackupAndRestore does for itself what is done here.
_KERAS_SETS = {"model", "_model", "params", "monitor_op"}
_WITHOUT_STATE = {"BackupAndRestore", "ProgbarLogger"}
_BEGIN = "_orch_begin"  # the attribute with the fingerprints of the others
_KEY = re.compile(r"callback/(\d+)/([^/]+)")
# Classes whose objects hold nothing that a training would miss, or that nobody can store.
_OF_LIBRARIES = {"keras", "keras_tuner", "tensorflow", "numpy", "optuna", "orchestrator"}
_DEEPEST = 20  # a list may hold itself


def capture_callbacks(callbacks: Sequence[Any]) -> dict[str, Array]:
    """What their attributes have become, by position and class: ``callback/0/EarlyStopping``.

    An array of text has the attributes as JSON, and others have the arrays in them.
    """
    captured: dict[str, Array] = {}
    for index, callback in enumerate(_flat(callbacks)):
        begin = vars(callback).get(_BEGIN, {})
        key = f"callback/{index}/{type(callback).__name__}"
        kept: dict[str, Any] = {}
        lost: list[str] = []
        for name, value in _attributes(callback):
            fingerprint, encoded, arrays = _read(name, value)
            if encoded is _NotPlain:
                if _is_lost(callback, value, begin.get(name) != fingerprint):
                    lost.append(name)
            elif begin.get(name) != fingerprint:
                kept[name] = encoded
                captured.update({f"{key}/{path}": np.array(each) for path, each in arrays.items()})
        if kept or lost:
            captured[key] = np.array(json.dumps({"attributes": kept, "lost": lost}))
    return captured


def restore_callbacks(callbacks: Sequence[Any], arrays: Mapping[str, Array]) -> list[str]:
    """Set the attributes of callbacks as they were captured: after each ``on_train_begin``.

    Call it for a training that starts from its beginning, too, with no arrays: it notes how the
    callbacks begin, and what is as it was then is not captured. A path or an array of examples that
    somebody gave to a callback is so left alone.

    Args:
        callbacks: as for :func:`capture_state`, in the same order.
        arrays: what that returned.

    Returns:
        What could not be restored, in words, e.g. ``callback 2 (MyCallback): tracker``.
    """
    flat = list(_flat(callbacks))
    for callback in flat:
        if _BEGIN not in vars(callback):
            begin = {name: _read(name, value)[0] for name, value in _attributes(callback)}
            vars(callback)[_BEGIN] = begin
    arrays = unpack({name: array for name, array in arrays.items() if _KEY.match(name)})
    words = []
    for key in arrays:
        match = _KEY.fullmatch(key)
        if match is None:
            continue
        index, name = int(match[1]), match[2]
        missed = ["all of it"]
        if index < len(flat) and type(flat[index]).__name__ == name:
            missed = _restore(flat[index], json.loads(str(arrays[key])), key, arrays)
        if missed:
            words.append(f"callback {index + 1} ({name}): {', '.join(missed)}")
    return words


def _restore(
    callback: Any, state: Mapping[str, Any], key: str, arrays: Mapping[str, Array]
) -> list[str]:
    """Returns the names of the attributes that could not be set."""
    missed = list(state["lost"])
    own = {name.removeprefix(f"{key}/"): array for name, array in arrays.items()}
    for name, encoded in state["attributes"].items():
        current = vars(callback).get(name)
        try:
            value = _decode(encoded, own, current)
            if value is not current:
                setattr(callback, name, value)
        except Exception:  # a property or a class that refuses it
            missed.append(name)
    return missed


def _flat(callbacks: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """The callbacks, those in a CallbackList, and those that another one has as attributes."""
    import keras

    seen = set() if seen is None else seen
    for callback in keras.tree.flatten(callbacks):
        if id(callback) in seen or not isinstance(callback, keras.callbacks.Callback):
            continue
        seen.add(id(callback))
        if isinstance(callback, keras.callbacks.CallbackList):
            yield from _flat(callback.callbacks, seen)
            continue
        yield callback
        for value in list(vars(callback).values()):
            if isinstance(value, (keras.callbacks.Callback, list, tuple)):
                yield from _flat(_callbacks_in(value), seen)


def _callbacks_in(value: Any) -> list[Any]:
    import keras

    values = value if isinstance(value, (list, tuple)) else [value]
    return [each for each in values if isinstance(each, keras.callbacks.Callback)]


def _attributes(callback: Any) -> Iterator[tuple[str, Any]]:
    if type(callback).__name__ in _WITHOUT_STATE:
        return
    for name, value in list(vars(callback).items()):
        # Keras turns the sign of min_delta when it sets monitor_op, and would turn it again.
        is_turned = name == "min_delta" and "monitor_op" in vars(callback)
        if name not in _KERAS_SETS and name != _BEGIN and not is_turned:
            yield name, value


def _read(name: str, value: Any) -> tuple[str, Any, dict[str, Array]]:
    """A fingerprint of an attribute, its JSON-able form, and the arrays in it, by their names.

    What is not plain has its identity for a fingerprint, and _NotPlain for a form.
    """
    try:
        encoded, arrays = _encode(value, name)
    except _NotPlain:
        length = len(value) if isinstance(value, (list, tuple, dict, set)) else 0
        return f"{id(value)} {length}", _NotPlain, {}
    digest = hashlib.blake2b(json.dumps(encoded).encode())
    for array in arrays.values():
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest(), encoded, arrays


def _is_lost(callback: Any, value: Any, has_changed: bool) -> bool:
    """Whether an attribute that is not plain holds what a user would miss."""
    import keras

    if _root(callback) in _OF_LIBRARIES:
        return False
    if isinstance(value, keras.Layer):  # a teacher, an average: not the model that trains
        layers = callback.model._flatten_layers() if callback.model is not None else []
        return all(value is not layer for layer in layers)
    if callable(value):
        return False
    root = _root(value)
    is_users = root not in _OF_LIBRARIES and root not in sys.stdlib_module_names
    return has_changed or (is_users and bool(getattr(value, "__dict__", None)))


def _root(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


class _NotPlain(Exception):
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


def _encode(value: Any, name: str) -> tuple[Any, dict[str, Array]]:
    """The value as JSON has it, and the arrays in it, whose names begin with ``name``.

    Raises:
        _NotPlain: it has other values in it.
    """
    arrays: dict[str, Array] = {}

    def keep(array: Array) -> str:
        if array.dtype.hasobject:
            raise _NotPlain
        arrays[f"{name}/{len(arrays)}"] = array
        return next(reversed(arrays))

    return _encode_part(value, keep, 0), arrays


def _decode(encoded: Any, arrays: Mapping[str, Array], current: Any = None) -> Any:
    """The reverse of :func:`_encode`.

    Args:
        encoded: what that returned.
        arrays: those by their names.
        current: the value in its place; changed and returned where it is of its type and mutable,
            because others may hold it, too.
    """
    if isinstance(encoded, list):
        return _LIST.join([_decode(each, arrays) for each in encoded], current)
    if not isinstance(encoded, dict):
        return encoded
    [(name, content)] = encoded.items()
    if name in _OF_ARRAYS:
        return _OF_ARRAYS[name](arrays[content], current)
    return _BY_NAME[name].join([_decode(each, arrays) for each in content], current)


def _encode_part(value: Any, keep: Callable[[Array], str], depth: int) -> Any:
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
        raise _NotPlain
    parts = [_encode_part(each, keep, depth + 1) for each in kind.parts(value)]
    if kind.name.endswith("set"):
        parts.sort(key=json.dumps)  # the order of a set differs between processes
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
        raise _NotPlain from None


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
