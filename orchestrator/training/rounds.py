"""Rounds: the splits that one trial trains on, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import overload

import numpy as np

from orchestrator.training.data import Array, Dataset, Split, split
from orchestrator.training.errors import DataError
from orchestrator.training.mapped import mapped


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


def mean_and_variance(images: Array) -> tuple[float, float]:
    """Of all pixels of the training images, as :func:`scaled` writes them."""
    # Image by image: whole-set intermediates in float64 would be eight times the data.
    means = np.array([image.mean() for image in map(scaled, images)])
    squares = np.array([np.square(image).mean() for image in map(scaled, images)])
    mean = float(means.mean())
    return mean, float(squares.mean()) - mean**2
