"""Arrays, alone or nested as ``model.fit`` takes them: stored bit for bit, and shared in memory.

A *nest* is an array, or dicts, lists and tuples of arrays. :func:`pack` makes arrays of any number
type into arrays that ``np.savez`` stores without pickle, bit for bit. :class:`Sharing` maps the
files of a data set into the memory of all processes of this machine that use it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.base.files import home, remove_old
from orchestrator.errors import DataError

Array = NDArray[Any]
Nest = Any  # an array, or a dict, list or tuple of nests; None: nothing
_SCALARS = (bool, int, float, complex, str, bytes, np.generic)
_MARK = "@"  # "model/dense/kernel@bfloat16": the integers below are the bits of that type
# Below that, a file is not worth its while.
_LEAST_BYTES = 16 * 2**20
UNUSED_DAYS = 30.0


def as_nest(value: Any, what: str) -> Nest:
    """The value as a nest of NumPy arrays; arrays stay as they are.

    Args:
        value: arrays, data frames, eager tensors, or lists of numbers, however nested.
        what: it is, for the message.

    Raises:
        DataError: something in it is not an array.
    """
    if value is None or isinstance(value, np.ndarray):
        return value
    if isinstance(value, Mapping):
        return {key: as_nest(each, f"{what}[{key!r}]") for key, each in value.items()}
    if isinstance(value, list | tuple) and not _is_list_of_scalars(value):
        parts = [as_nest(each, f"{what}[{place}]") for place, each in enumerate(value)]
        return _same_container(value, parts)
    return _as_array(value, what)


def map_nest(function: Callable[[Array], Any], nest: Nest) -> Nest:
    """A nest of the same structure, with what the function makes of each array."""
    if nest is None:
        return None
    if isinstance(nest, Mapping):
        return {key: map_nest(function, each) for key, each in nest.items()}
    if isinstance(nest, list | tuple):
        return _same_container(nest, [map_nest(function, each) for each in nest])
    return function(nest)


def leaves(nest: Nest, path: str = "") -> Iterator[tuple[str, Array]]:
    """Each array and where it is, e.g. ``x['age']``; a dict's in the order of its keys' names."""
    if nest is None:
        return
    if isinstance(nest, Mapping):
        for key in sorted(nest, key=str):
            yield from leaves(nest[key], f"{path}[{key!r}]")
    elif isinstance(nest, list | tuple):
        for place, each in enumerate(nest):
            yield from leaves(each, f"{path}[{place}]")
    else:
        yield path, nest


def examples_of(nest: Nest, what: str) -> int:
    """How many examples a nest holds: the length of each of its arrays.

    Raises:
        DataError: there are none, or the arrays differ in length.
    """
    count = None
    for path, array in leaves(nest, what):
        if array.ndim == 0:
            raise DataError(f"{path} is a single value; it must hold one entry for each example")
        if count is not None and len(array) != count:
            raise DataError(f"{path} has {len(array)} examples, and others of the data {count}")
        count = len(array)
    if not count:
        raise DataError(f"{what} must hold examples, and it holds none")
    return count


def shapes(nest: Nest) -> Any:
    """The shape of one example, in the nest's own structure, as JSON has it."""
    return map_nest(lambda array: [int(length) for length in array.shape[1:]], nest)


def sha256_of(*arrays: Array) -> str:
    """The SHA-256 of the arrays' types, shapes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(_bytes_of(array))
    return digest.hexdigest()


def _bytes_of(array: Array) -> memoryview | bytes:
    if array.dtype.kind in "OT":  # such values have no bytes of their own to compare
        if not _holds_text(array):
            return "\0".join(map(repr, array.reshape(-1))).encode()
        array = array.astype(str)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def sha256_of_nest(nest: Nest) -> str:
    """The SHA-256 of a nest's names, and of its arrays' types, shapes and contents."""
    digest = hashlib.sha256()
    for path, array in leaves(nest):
        digest.update(f"{path} {sha256_of(array)}\n".encode())
    return digest.hexdigest()


def take(nest: Nest, where: slice | Array) -> Nest:
    """Some of the examples; a view where a slice says which."""
    return map_nest(lambda array: array[where], nest)


def is_stream(value: Any) -> bool:
    """Whether it is what ``model.fit`` iterates: a Dataset, PyDataset, DataLoader or generator.

    No framework is imported for the answer.
    """
    kinds = {(each.__module__.partition(".")[0], each.__name__) for each in type(value).__mro__}
    known = {
        ("tensorflow", "DatasetV2"), ("tensorflow", "DistributedDatasetInterface"),
        ("keras", "PyDataset"), ("keras", "DataAdapter"), ("torch", "DataLoader"),
        ("grain", "MapDataset"), ("grain", "IterDataset"), ("grain", "DataLoader"),
    }  # fmt: skip
    return bool(kinds & known) or hasattr(value, "__next__")


def _is_list_of_scalars(value: list[Any] | tuple[Any, ...]) -> bool:
    first: Any = value
    while isinstance(first, list | tuple):
        if not first:
            return False
        first = first[0]
    return isinstance(first, _SCALARS)


def _same_container(like: Any, parts: list[Any]) -> Any:
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*parts)
    return tuple(parts) if isinstance(like, tuple) else parts


def _as_array(value: Any, what: str) -> Array:
    if hasattr(value, "tocsr"):
        raise DataError(f"{what} is a sparse matrix; give {what}.toarray() or a tf.data.Dataset")
    if hasattr(value, "to_numpy"):  # of pandas, as Keras takes them: a column is of shape (n, 1)
        array = np.asarray(value.to_numpy())
        return array[:, np.newaxis] if array.ndim == 1 else array
    try:
        array = np.asarray(value)
    except Exception as error:  # a ragged list; whatever a tensor raises that is not on this device
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{what} cannot be made an array ({reason})") from None
    if array.ndim == 0:
        raise DataError(
            f"{what} is of the type {type(value).__name__}; give an array, a dict or list of "
            "arrays, a tf.data.Dataset, a PyDataset or a generator"
        )
    return array


def _holds_text(array: Array) -> bool:
    sample = itertools.islice(array.reshape(-1), 100)
    return array.dtype.kind == "T" or all(isinstance(each, str) for each in sample)


def pack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """View the types that NumPy does not know (bfloat16, float8) as integers of their size."""
    return dict(_packed(name, array) for name, array in arrays.items())


def unpack(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The reverse of :func:`pack`."""
    return dict(_unpacked(name, array) for name, array in arrays.items())


def _packed(name: str, array: Array) -> tuple[str, Array]:
    dtype = array.dtype
    if dtype.kind != "V" or issubclass(dtype.type, np.void):
        return name, array
    return f"{name}{_MARK}{dtype.name}", array.view(f"u{dtype.itemsize}")


def _unpacked(name: str, array: Array) -> tuple[str, Array]:
    base, mark, dtype = name.rpartition(_MARK)
    if not mark:
        return name, array
    import ml_dtypes  # comes with Keras

    known: Any = getattr(ml_dtypes, dtype, None)
    return (name, array) if known is None else (base, array.view(known))


def data_folder() -> Path:
    """Where the data of this machine's studies are."""
    return home() / "data"


class Sharing:
    """Call it with each array of a data set, always in the same order.

    It returns the array in memory that other processes share, or as it is where it is small. The
    pages are private once somebody writes to them: one process's change stays its own.

    Args:
        sha256: of the data set; names the files.
    """

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256
        self._count = 0

    def __call__(self, array: Array) -> Array:
        place, self._count = self._count, self._count + 1
        if array.nbytes < _LEAST_BYTES or array.dtype.hasobject or array.dtype.kind == "T":
            return array
        path = data_folder() / f"{self._sha256}-{place}-{array.dtype.name}.npy"
        found = _open_same(path, array)
        if found is None:
            with contextlib.suppress(OSError):  # a full or read-only disk: everybody has a copy
                remove_old(path.parent.glob("*.npy"), UNUSED_DAYS)
                write_array(path, array)
                found = _open_same(path, array)
        return array if found is None else found


def open_array(path: Path) -> Array:
    """The array of a file, mapped into memory.

    Raises:
        OSError, ValueError, EOFError: there is none, or it is damaged.
    """
    array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    with contextlib.suppress(OSError):
        path.touch()  # it is wanted
    return array.view(np.ndarray)


def write_array(path: Path, array: Array) -> None:
    """Write an array whole.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix="new-", suffix=".npy")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _open_same(path: Path, array: Array) -> Array | None:
    """The array of the file; None where the file is missing, damaged, or of a different array."""
    try:
        found = open_array(path)
    except (OSError, ValueError, EOFError):
        return None
    same = found.shape == array.shape and found.dtype == array.dtype
    return found if same and _checksum(found) == _checksum(array) else None


def _checksum(array: Array) -> int:
    # Many types have no buffer of their own, as dates; their bytes have.
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
