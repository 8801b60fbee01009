"""Rounds of a trial: folds and repeats, on arrays that are mapped into memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import platformdirs

from orchestrator.errors import DataError
from orchestrator.training.data import Array, Dataset, Split, split

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


class Rounds(Sequence[Split]):
    """Folds within repeats; without folds, every round is the same split.

    Folds are those of scikit-learn's ``StratifiedKFold`` without shuffling, which
    ``GridSearchCV(cv=k)`` uses for classifiers: they follow from the data alone. A fold is cut when
    it is asked for, so that one copy of it is in memory, not all.

    Args:
        dataset: the examples.
        validation: examples held out where there are no folds; None: a sixth.
        folds: k of k-fold cross-validation; 0: one split.
        repeats: how often everything is trained.

    Raises:
        DataError: a class has fewer examples than there are folds.
    """

    def __init__(self, dataset: Dataset, validation: int | None, folds: int, repeats: int) -> None:
        self._dataset = dataset
        self._validation = validation
        self._folds = folds
        self._repeats = repeats
        least = int(np.bincount(dataset.y_train).min())
        if folds > least:
            raise DataError(
                f"{folds} folds are too many: the rarest class of {dataset.name} has {least} "
                f"training examples; choose {least} folds at most"
            )

    def __len__(self) -> int:
        return max(1, self._folds) * self._repeats

    @overload
    def __getitem__(self, index: int) -> Split: ...

    @overload
    def __getitem__(self, index: slice) -> list[Split]: ...

    def __getitem__(self, index: int | slice) -> Split | list[Split]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        if not self._folds:
            return self._one_split
        train, validation = self._cuts[index % self._folds]
        x, y = self._pixels, self._dataset.y_train
        return Split(x[train], y[train], x[validation], y[validation])

    @cached_property
    def _pixels(self) -> Array:
        pixels = scaled(self._dataset.x_train)
        shared = mapped(self._dataset, pixels)
        return pixels if shared is None else shared

    @cached_property
    def _one_split(self) -> Split:
        raw = split(self._dataset, self._validation)
        cut = len(raw.x_train)
        return Split(self._pixels[:cut], raw.y_train, self._pixels[cut:], raw.y_validation)

    @cached_property
    def _cuts(self) -> list[tuple[Array, Array]]:
        from sklearn.model_selection import StratifiedKFold

        labels = self._dataset.y_train
        return list(StratifiedKFold(self._folds).split(np.zeros(len(labels)), labels))


def scaled(images: Array) -> Array:
    """Pixels as float32: bytes 0..255 become 0..1, other numbers stay as they are."""
    pixels = images.astype(np.float32)
    return pixels / np.float32(255) if images.dtype == np.uint8 else pixels
