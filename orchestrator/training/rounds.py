"""Rounds of a trial: folds and repeats, each as the arguments of ``model.fit``."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np

from orchestrator.errors import DataError
from orchestrator.training.arrays import Nest, take
from orchestrator.training.data import Array, Dataset

_log = logging.getLogger("orch")


@dataclass(frozen=True)
class Split:
    """One round's data, as ``model.fit`` takes them.

    Attributes:
        x: a nest of arrays; or a ``tf.data.Dataset``, a ``PyDataset`` or a generator.
        y: the labels, a nest of arrays; None: there are none, or x brings them.
        sample_weight: a nest of arrays; None: there are none.
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)``, or what is iterated; None: none.
        options: further arguments, as the user gave them.
    """

    x: Any
    y: Nest = None
    sample_weight: Nest = None
    validation_data: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def fit_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What ``model.fit`` is called with, as KerasTuner does: positional, and by keyword.

        There is only what exists. Callbacks are copies, so that each training starts with theirs.
        """
        keywords = {key: value for key, value in self.options.items() if key != "callbacks"}
        if self.sample_weight is not None:
            keywords["sample_weight"] = self.sample_weight
        if self.validation_data is not None:
            keywords["validation_data"] = self.validation_data
        if self.options.get("callbacks"):
            keywords["callbacks"] = copy.deepcopy(self.options["callbacks"])
        return (self.x,) if self.y is None else (self.x, self.y), keywords


class Rounds(Sequence[Split]):
    """Folds within repeats; without folds, every round is the same split.

    Folds are those of scikit-learn's ``StratifiedKFold`` without shuffling, which
    ``GridSearchCV(cv=k)`` uses for classifiers, where there is one column of whole numbers, texts
    or truth values; and those of ``KFold`` otherwise. They follow from the data alone. A fold is
    cut when it is asked for, so that one copy of it is in memory, not all.

    Args:
        dataset: the examples.
        validation: examples held out where there are no folds; None: a sixth.
        folds: k of k-fold cross-validation; 0: one split.
        repeats: how often everything is trained.
        remake: makes the data set anew, for another round of what can be iterated once.

    Raises:
        DataError: the data cannot be split so.
    """

    def __init__(
        self,
        dataset: Dataset,
        validation: int | None,
        folds: int,
        repeats: int,
        remake: Callable[[], Dataset] | None = None,
    ) -> None:
        self._dataset = dataset
        self._folds = folds
        self._repeats = repeats
        self._remake = remake
        self._held_out = 0
        self._taken = False
        dataset.check_can_validate(validation, folds)
        if not dataset.is_stream:
            self._held_out = dataset.held_out(validation, folds)
        if folds:
            self._check_folds()
        elif self._held_out:
            self._warn_of_missing_classes()

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
        if self._dataset.is_stream:
            return self._of_stream()
        if not self._folds:
            return self.searched
        train, validation = self._cuts[index % self._folds]
        return self._cut(train, validation)

    @cached_property
    def searched(self) -> Split:
        """The training part, and the last examples or the data's own to validate."""
        if self._dataset.is_stream or not self._held_out:
            return _as_given(self._dataset)
        cut = self._dataset.examples - self._held_out
        return self._cut(slice(None, cut), slice(cut, None))

    @property
    def test(self) -> tuple[Any, ...] | None:
        """The test set as the arguments of ``model.evaluate``; None: there is none."""
        return self._dataset.test

    @property
    def for_refit(self) -> Split:
        """All training examples, and none to validate.

        As in the search where callbacks of the user's watch the validation, and where the examples
        are iterated.
        """
        data = self._dataset
        if data.is_stream or data.options.get("callbacks"):
            return self.searched
        return Split(data.x_train, data.y_train, data.sample_weight, None, _options(data))

    def _of_stream(self) -> Split:
        if self._taken and self._remake is not None:
            return _as_given(self._remake())
        self._taken = True
        return _as_given(self._dataset)

    def _cut(self, train: slice | Array, validation: slice | Array) -> Split:
        data = self._dataset
        x, y, weights = data.x_train, data.y_train, data.sample_weight
        held_out = [take(each, validation) for each in (x, y)]
        if weights is not None:
            held_out.append(take(weights, validation))
        return Split(
            take(x, train), take(y, train), take(weights, train), tuple(held_out), _options(data)
        )

    def _check_folds(self) -> None:
        folds, examples = self._folds, self._dataset.examples
        if folds > examples:
            raise DataError(f"{folds} folds are too many for {examples} training examples")
        if self._labels is None:
            return
        counts = np.unique(self._labels, return_counts=True)[1]
        least = int(counts.min())
        if folds > least and not _are_measurements(counts, folds):
            raise DataError(
                f"{folds} folds are too many: the rarest class of {self._dataset.name} has {least} "
                f"training examples; choose {least} folds at most, or give targets that are no "
                "classes as floats"
            )

    def _warn_of_missing_classes(self) -> None:
        labels = labels_of(self._dataset.y)
        if labels is None:
            return
        classes = np.unique(labels)
        missing = len(classes) - len(np.unique(labels[-self._held_out :]))
        if missing and (labels.dtype.kind not in "iu" or len(classes) ** 2 <= len(labels)):
            _log.warning(
                "the last %d training examples of %s validate, and lack %d of its %d classes; "
                "shuffle the data, or give validation_data",
                self._held_out, self._dataset.name, missing, len(classes),
            )  # fmt: skip

    @property
    def _labels(self) -> Array | None:
        """The labels by which folds are stratified; None: they are not."""
        y = self._dataset.y
        is_column = isinstance(y, np.ndarray) and y.size == len(y)
        return labels_of(y) if is_column else None

    @cached_property
    def _cuts(self) -> list[tuple[Array, Array]]:
        from sklearn.model_selection import KFold, StratifiedKFold

        labels = self._labels
        examples = np.zeros(self._dataset.examples)
        if labels is not None:
            numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
            if not _are_measurements(counts, self._folds):
                return list(StratifiedKFold(self._folds).split(examples, numbers))
        return list(KFold(self._folds).split(examples))


def labels_of(y: Nest) -> Array | None:
    """The class of each example, from one column or one-hot labels; None: they are no classes."""
    if not isinstance(y, np.ndarray) or y.ndim > 2:
        return None
    if y.size == len(y):
        column = y.reshape(-1)
        if column.dtype.kind in "iubUST":
            return column
        is_text = column.dtype.kind == "O" and all(isinstance(each, str) for each in column)
        return column.astype(str) if is_text else None
    if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all() or (y.sum(axis=1) != 1).any():
        return None
    return np.asarray(y.argmax(axis=1))


def _are_measurements(counts: Array, folds: int) -> bool:
    """Whether labels are numbers, not classes: none of them comes often enough for the folds."""
    return int(counts.max()) < folds


def _as_given(dataset: Dataset) -> Split:
    x, y = dataset.x_train, dataset.y_train
    return Split(x, y, dataset.sample_weight, dataset.validation_data, _options(dataset))


def _options(dataset: Dataset) -> dict[str, Any]:
    """The options for a split that has been cut already."""
    return {key: each for key, each in dataset.options.items() if key != "validation_split"}
