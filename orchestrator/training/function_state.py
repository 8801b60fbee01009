"""The state of a plain function's training: what it keeps, and goes on from.

``checkpoint`` and ``restore`` are for any function of an ``optuna.Trial``; under plain Optuna both
do nothing. A state is stored as JSON and arrays, without pickle, and comes back as it was: dtypes,
shapes, whole numbers of any size, bytes, nested dicts, lists and tuples.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from orchestrator.errors import ObjectiveError
from orchestrator.training.arrays import pack, unpack
from orchestrator.training.data import Array

_TREE = "state"  # the name of the array that has the JSON; the others are "state/0", "state/1", …
_DEEPEST = 50  # a list may hold itself
_IN_JSON = 2**63  # Python refuses to read or write whole numbers of some thousand digits as text
_TAKES = "a state holds arrays, numbers, text, bytes, None, and dicts, lists and tuples of them"


def checkpoint(trial: object, step: int, state: Mapping[str, Any]) -> None:
    """Offer the state of a training after a step, to go on from it elsewhere.

    If the worker is lost, another one calls the objective again, and :func:`restore` returns the
    newest state that was stored. A worker that is asked to leave (SIGTERM) stores the state and
    gives the trial back inside this call. Under plain Optuna it does nothing.

    Args:
        trial: the trial that the objective was given.
        step: the last step in the state; report its value first.
        state: arrays (NumPy's, PyTorch's, or what ``numpy.asarray`` takes), numbers, text or bytes
            by name, and dicts, lists and tuples of them, as of ``optimizer.state_dict()``. It is
            copied before this call returns, if a checkpoint is due at all.

    Raises:
        TypeError: something in the state cannot be stored; the message names it.

    Example:
        def objective(trial):
            rate = trial.suggest_float("rate", 1e-3, 1.0, log=True)
            done, state = orch.restore(trial) or (0, {"weights": np.zeros(8)})
            weights = state["weights"]
            for step in range(done + 1, 21):
                weights -= rate * gradient(weights)
                trial.report(loss(weights), step)
                orch.checkpoint(trial, step, {"weights": weights})
            return loss(weights)
    """
    own = getattr(trial, "checkpoint", None)
    if own is not None:
        own(step, Outline(state).copy)


def restore(trial: object) -> tuple[int, dict[str, Any]] | None:
    """The step after which a training goes on, and its state; None: it starts from its beginning.

    Call it before the first report. Under plain Optuna it returns None.

    Args:
        trial: the trial that the objective was given.

    Returns:
        What :func:`checkpoint` was given. A PyTorch tensor is on the CPU; other libraries' arrays
        are NumPy's, and mappings are dicts.

    Raises:
        ObjectiveError: the stored state is of another objective.

    Example:
        done, state = orch.restore(trial) or (0, None)
        if state is not None:
            model.load_state_dict(state["model"])
    """
    own = getattr(trial, "restore", None)
    found = None if own is None else own()
    if found is None:
        return None
    step, arrays = found
    return step, read(arrays)


class Outline:
    """What is in a state, checked but not yet copied: most checkpoints are not due.

    Args:
        state: by name.

    Raises:
        TypeError: something in it cannot be stored.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping):
            raise TypeError(
                f"the state is a {_type(state)}; it must be a mapping of names to arrays, numbers, "
                "text or bytes"
            )
        for name in state:
            if not isinstance(name, str):
                raise TypeError(f"the state's name {name!r} is a {_type(name)}; it must be text")
        self._copies: dict[str, Callable[[], Array]] = {}
        self._tree = self._outline(state, "state", 0)

    def copy(self) -> dict[str, Array]:
        """The state as arrays that nobody else changes; :func:`read` is the reverse.

        Raises:
            TypeError: an array cannot be stored, e.g. because it holds Python objects.
        """
        arrays = {name: copy() for name, copy in self._copies.items()}
        tree = np.frombuffer(json.dumps(self._tree).encode(), np.uint8)
        return {_TREE: tree, **pack(arrays)}

    def _outline(self, value: Any, path: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise TypeError(f"the {path[:60]}… is nested too deeply; {_TAKES}")
        plain = _as_json(value)
        if plain is not None or value is None:
            return plain
        if isinstance(value, Mapping):
            return {"dict": [self._pair(*pair, path, depth) for pair in value.items()]}
        if type(value) in (list, tuple):
            parts = [
                self._outline(each, f"{path}[{place}]", depth + 1)
                for place, each in enumerate(value)
            ]
            return parts if type(value) is list else {"tuple": parts}
        return self._leaf(value, path)

    def _leaf(self, value: Any, path: str) -> dict[str, Any]:
        if type(value) in (bytes, bytearray):
            return {_type(value): self._keep(partial(_byte_array, value))}
        if _is_torch(value):
            dtype, shape = str(value.dtype).removeprefix("torch."), list(value.shape)
            return {"torch": [self._keep(partial(_torch_bytes, value, path)), dtype, shape]}
        if not hasattr(value, "__array__"):
            raise TypeError(f"the {path} is a {_type(value)}; {_TAKES}")
        kind = "scalar" if isinstance(value, np.generic) else "array"
        return {kind: self._keep(partial(_array, value, path))}

    def _pair(self, key: Any, value: Any, path: str, depth: int) -> list[Any]:
        name = _as_json(key)
        if name is None and key is not None:
            raise TypeError(f"the key {key!r} of the {path} is a {_type(key)}; use text or numbers")
        return [name, self._outline(value, f"{path}[{key!r}]", depth + 1)]

    def _keep(self, copy: Callable[[], Array]) -> str:
        name = f"{_TREE}/{len(self._copies)}"
        self._copies[name] = copy
        return name


def read(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """The state that :meth:`Outline.copy` has made arrays of.

    Raises:
        ObjectiveError: they are of another objective, or need a library that is missing here.
    """
    if _TREE not in arrays:
        raise ObjectiveError(
            "the checkpoint was not written by orch.checkpoint; has the objective changed?"
        )
    named = unpack({name: array for name, array in arrays.items() if name != _TREE})
    state: dict[str, Any] = _value(json.loads(arrays[_TREE].tobytes()), named)
    return state


def _value(tree: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(tree, list):
        return [_value(each, arrays) for each in tree]
    if not isinstance(tree, dict):
        return tree
    [(kind, content)] = tree.items()
    if kind == "dict":
        return {_value(key, arrays): _value(each, arrays) for key, each in content}
    if kind == "tuple":
        return tuple(_value(each, arrays) for each in content)
    return _LEAVES[kind](content, arrays)


_LEAVES: dict[str, Callable[[Any, Mapping[str, Array]], Any]] = {
    "int": lambda text, _: int(text, 16),
    "complex": lambda parts, _: complex(*parts),
    "bytes": lambda name, arrays: arrays[name].tobytes(),
    "bytearray": lambda name, arrays: bytearray(arrays[name].tobytes()),
    "scalar": lambda name, arrays: arrays[name][()],
    "array": lambda name, arrays: arrays[name],
    "torch": lambda content, arrays: _torch_tensor(arrays[content[0]], *content[1:]),
}


def _as_json(value: Any) -> Any:
    """What a number or a text is in the JSON; None: it is neither."""
    if type(value) in (bool, float, str):
        return value
    if type(value) is int:
        return value if -_IN_JSON <= value < _IN_JSON else {"int": hex(value)}
    if type(value) is complex:
        return {"complex": [value.real, value.imag]}
    return None


def _array(value: Any, path: str) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"the {path} is a MaskedArray; store its data and its mask")
    try:
        array = np.array(np.asarray(value), order="K")
    except Exception as error:  # whatever a library raises, e.g. for an array on a GPU
        raise TypeError(
            f"the {path} is a {_type(value)} that cannot be read as an array: {error}"
        ) from error
    if array.dtype.hasobject or array.dtype.kind == "T":
        raise TypeError(
            f"the {path} is an array of {array.dtype}, which holds Python objects; store numbers, "
            "or a list"
        )
    return array


def _byte_array(value: bytes | bytearray) -> Array:
    return np.array(bytearray(value), np.uint8)


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _torch_bytes(tensor: Any, path: str) -> Array:
    """The bytes of a tensor: NumPy lacks some of PyTorch's types, e.g. bfloat16."""
    torch = sys.modules["torch"]
    try:
        flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        return np.array(flat.view(torch.uint8).numpy())
    except Exception as error:  # a sparse or a quantised one
        raise TypeError(f"the {path} is a tensor that cannot be stored: {error}") from error


def _torch_tensor(content: Array, dtype: str, shape: list[int]) -> Any:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        raise ObjectiveError("the checkpoint has PyTorch's tensors: install torch here") from None
    if not content.size:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.from_numpy(np.array(content)).view(getattr(torch, dtype)).reshape(shape)


def _type(value: object) -> str:
    return type(value).__name__
