"""Arrays in files of this machine, mapped into the memory of the processes that use them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from pathlib import Path

import numpy as np

from orchestrator.base.files import home, remove_old
from orchestrator.training.nest import Array

# Below that, a file is not worth its while.
_LEAST_BYTES = 16 * 2**20
UNUSED_DAYS = 30.0


def folder() -> Path:
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
        path = folder() / f"{self._sha256}-{place}-{array.dtype.name}.npy"
        found = _open_same(path, array)
        if found is None:
            with contextlib.suppress(OSError):  # a full or read-only disk: everybody has a copy
                remove_old(path.parent.glob("*.npy"), UNUSED_DAYS)
                write(path, array)
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


def write(path: Path, array: Array) -> None:
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
    """The array of the file; None: there is none, or it is another array, or damaged."""
    try:
        found = open_array(path)
    except (OSError, ValueError, EOFError):
        return None
    same = found.shape == array.shape and found.dtype == array.dtype
    return found if same and _checksum(found) == _checksum(array) else None


def _checksum(array: Array) -> int:
    # Many types have no buffer of their own, as dates; their bytes have.
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
