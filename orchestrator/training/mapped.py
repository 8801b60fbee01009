"""The scaled training images in one file that all processes of a machine map."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import platformdirs

from orchestrator.training.data import Array, Dataset

# Below that, a file is not worth its while.
_LEAST_BYTES = 16 * 2**20
_UNUSED_SECONDS = 30 * 24 * 3600


def mapped(dataset: Dataset, pixels: Array) -> Array | None:
    """The pixels in memory that other processes share; None: there is no such file.

    The pages are private once somebody writes to them, so that one process's change stays its own.

    Args:
        dataset: whose training images they are; names the file.
        pixels: shape (n, ...), read only if the file is not there yet or is damaged.
    """
    if pixels.nbytes < _LEAST_BYTES:
        return None
    path = _folder() / f"{dataset.sha256}-{pixels.dtype.name}.npy"
    found = _open(path, pixels)
    if found is None:
        with contextlib.suppress(OSError):  # a full or read-only disk: everybody has a copy
            _remove_unused(path.parent)
            _write(path, pixels)
            found = _open(path, pixels)
    return found


def _folder() -> Path:
    home = os.environ.get("ORCH_HOME")
    return (Path(home).expanduser() if home else platformdirs.user_data_path("orch")) / "data"


def _remove_unused(folder: Path) -> None:
    """Make room: data sets that nobody has opened for a month, and what was never whole."""
    for path in folder.glob("*.npy"):
        with contextlib.suppress(OSError):  # another process may have been quicker
            if time.time() - path.stat().st_mtime > _UNUSED_SECONDS:
                path.unlink()


def _open(path: Path, pixels: Array) -> Array | None:
    try:
        array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    same = array.shape == pixels.shape and array.dtype == pixels.dtype
    if not same or zlib.crc32(array.data) != zlib.crc32(np.ascontiguousarray(pixels).data):
        return None
    with contextlib.suppress(OSError):
        path.touch()  # it is wanted
    return array.view(np.ndarray)


def _write(path: Path, pixels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix="new-", suffix=".npy")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, pixels, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
