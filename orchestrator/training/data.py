"""Data sets: what a training is given, where it comes from, and what identifies it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import DataError
from orchestrator.training.arrays import (
    Array,
    Nest,
    Sharing,
    examples_of,
    is_stream,
    map_nest,
    sha256_of,
    sha256_of_nest,
    shapes,
)

__all__ = ["Array", "DataFacts", "Dataset", "held_out_of", "load", "sha256_of"]

_CONNECT_SECONDS, _DOWNLOAD_SECONDS = 20.0, 600.0
_DIGITS_TEST = 360


@dataclass(frozen=True)
class DataFacts:
    """What a study pins of its data.

    Attributes:
        name: the data set's name.
        sha256: of the arrays, or of what else pins the data.
        train: examples to train on; None: unknown, as of a generator.
        validation: examples held out of the training set, or brought along.
        test: examples of the test set; 0: there are none.
        shape: of one example; where there are several inputs, of each, in their structure.
        pinned_by: what `sha256` is of: ``arrays``, which reach the model as they are;
            ``fingerprint``; or the source of a module. None: of arrays that are made for their use.
    """

    name: str
    sha256: str
    train: int | None
    validation: int | None
    test: int | None
    shape: Any
    pinned_by: str | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-able, and equal for equal facts."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {key: each for key, each in facts.items() if key != "pinned_by" or each}


@dataclass(eq=False)
class Dataset:
    """Everything that ``model.fit`` and ``model.evaluate`` are given.

    Attributes:
        name: as the user named it; a file's name for a PATH.npz.
        source: where it was read from, for people.
        sha256: of the arrays, or of what else pins the data.
        pinned_by: see :class:`DataFacts`.
        x: a nest of arrays, each with one entry for each example; or a ``tf.data.Dataset``, a
            ``PyDataset`` or a generator.
        y: the labels, a nest of arrays; None: there are none.
        sample_weight: a nest of arrays; None: there are none.
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)``, or what is iterated; None: a part
            of the training examples is held out.
        test_data: the same for the test set; None: there is none.
        options: further arguments of ``model.fit``, as ``class_weight`` or ``callbacks``.
        is_scaled: pixels reach the model as float32, bytes 0..255 as 0..1.
    """

    name: str
    source: str
    sha256: str
    pinned_by: str | None
    x: Any
    y: Nest = None
    sample_weight: Nest = None
    validation_data: Any = None
    test_data: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    is_scaled: bool = False
    _is_ready: bool = field(default=False, init=False)

    @property
    def is_stream(self) -> bool:
        """Whether the examples are iterated, not indexed."""
        return is_stream(self.x)

    @property
    def x_train(self) -> Any:
        """All training examples, as the model gets them."""
        self._prepare()
        return self.x

    @property
    def y_train(self) -> Nest:
        """Their labels."""
        self._prepare()
        return self.y

    @property
    def x_test(self) -> Any:
        """The examples of the test set, as the model gets them; None: there is none."""
        return None if self.test is None else self.test[0]

    @property
    def y_test(self) -> Nest:
        """Their labels."""
        return None if self.test is None or len(self.test) == 1 else self.test[1]

    @property
    def test(self) -> tuple[Any, ...] | None:
        """The test set as the arguments of ``model.evaluate``; None: there is none."""
        if self.test_data is None:
            return None
        if is_stream(self.test_data):
            return (self.test_data,)
        x, *others = self.test_data
        return (self._scaled(x), *others)

    @property
    def classes(self) -> int:
        """How many classes the labels have: numbers from 0, or one column for each class.

        Raises:
            DataError: they have none.
        """
        tests = [] if self.y_test is None else [self.y_test]
        labels = [each for each in (self.y, *tests) if isinstance(each, np.ndarray)]
        if not labels or labels[0].dtype.kind not in "biu":
            raise DataError(f"the labels of {self.name} are not class numbers from 0")
        if labels[0].ndim > 1 and labels[0].shape[-1] > 1:
            return int(labels[0].shape[-1])
        if min(int(each.min()) for each in labels) < 0:
            raise DataError(f"the labels of {self.name} are not class numbers from 0")
        return max(int(each.max()) for each in labels) + 1

    @property
    def examples(self) -> int:
        """How many training examples there are, what will be held out included."""
        return examples_of(self.x, "x")

    def facts(self, validation: int | None, folds: int = 0) -> DataFacts:
        """What a study pins.

        Args:
            validation: examples held out; None: a sixth.
            folds: k of k-fold cross-validation, which holds out one fold at a time.

        Raises:
            DataError: the data cannot be split so.
        """
        if self.is_stream:
            self.check_can_validate(validation, folds)
            train, shape = None, None
            held_out = 0 if self.validation_data is None else _count(self.validation_data)
        else:
            held_out = self.held_out(validation, folds)
            train, shape = self.examples - held_out, shapes(self.x)
            if self.validation_data is not None:
                held_out = _count(self.validation_data)
        test = 0 if self.test_data is None else _count(self.test_data)
        return DataFacts(self.name, self.sha256, train, held_out, test, shape, self.pinned_by)

    def held_out(self, validation: int | None, folds: int = 0) -> int:
        """How many training examples validate; None: a sixth, 10,000 of MNIST's 60,000.

        Raises:
            DataError: there are not that many.
        """
        self.check_can_validate(validation, folds)
        if self.validation_data is not None:
            return 0
        if folds:
            return self.examples // folds
        share = self.options.get("validation_split")
        if validation is None and share is not None:
            validation = self.examples - int(self.examples * (1 - float(share)))
        return held_out_of(self.examples, validation, f"training examples of {self.name}")

    def check_metrics(self, metrics: Iterable[str]) -> None:
        """Check that something validates where a metric of ``model.fit`` is one of validation.

        Raises:
            DataError: nothing does.
        """
        named = [metric for metric in metrics if metric.startswith("val_")]
        if named and self.is_stream and self.validation_data is None:
            raise DataError(
                f"{named[0]} needs validation data, and {self.name} is a {type(self.x).__name__}, "
                'from which orch cannot hold examples out; return a mapping with "x" and '
                '"validation_data"'
            )

    def check_can_validate(self, validation: int | None, folds: int) -> None:
        """Check that there is one way to validate at most.

        Raises:
            DataError: there are two, or the data cannot be split into folds.
        """
        if self.is_stream and folds:
            kind = type(self.x).__name__
            raise DataError(
                f"folds need arrays, and {self.name} is a {kind}; leave training.folds out, or "
                "give arrays"
            )
        if self.validation_data is None:
            return
        given = [("folds", folds), ("data.validation", validation is not None)]
        for name, is_given in given:
            if is_given:
                raise DataError(
                    f"{name} and the validation_data of {self.name} exclude each other; leave one "
                    "out"
                )

    def _prepare(self) -> None:
        """Have the arrays as the model gets them, in memory that other processes share."""
        if self._is_ready or self.is_stream:
            return
        self._is_ready = True
        share = Sharing(self.sha256)
        self.x = map_nest(share, self._scaled(self.x))
        self.y = map_nest(share, self.y)
        self.sample_weight = map_nest(share, self.sample_weight)
        if self.validation_data is not None and not is_stream(self.validation_data):
            x, *others = self.validation_data
            parts = [self._scaled(x), *others]
            self.validation_data = tuple(map_nest(share, part) for part in parts)

    def _scaled(self, images: Nest) -> Nest:
        return map_nest(scaled, images) if self.is_scaled else images


def scaled(images: Array) -> Array:
    """Pixels as float32: bytes 0..255 become 0..1, other numbers stay as they are."""
    pixels = images.astype(np.float32)
    return pixels / np.float32(255) if images.dtype == np.uint8 else pixels


def held_out_of(total: int, validation: int | None, what: str) -> int:
    """How many of ``total`` examples validate; None: a sixth.

    Args:
        total: how many there are.
        validation: how many are wanted.
        what: they are, for the message.

    Raises:
        DataError: there are not that many.
    """
    count = total // 6 if validation is None else validation
    if not 1 <= count < total:
        raise DataError(
            f"data.validation {count} is impossible with {total} {what}; choose 1 to {total - 1}"
        )
    return count


@cache
def load(name: str) -> Dataset:
    """The data set of a name (``mnist``, ``digits``) or of a PATH.npz in Keras's format.

    ``mnist`` is looked for in ``$ORCH_MNIST``, in Keras's cache, and on the network, in that order.

    Raises:
        DataError: it cannot be had, or is damaged; the message says how to get it.
    """
    if name == "mnist":
        return _load_mnist()
    if name == "digits":
        return _load_digits()
    if name.endswith(".npz"):
        path = Path(name).expanduser()
        return _read_npz(path, path.name)
    raise DataError(
        f"unknown data set '{name}'; known are digits and mnist, or write PATH.npz, "
        "package.module:function or ./file.py:function"
    )


def _load_mnist() -> Dataset:
    named = os.environ.get("ORCH_MNIST")
    if named:
        path = Path(named).expanduser()
        return _read_npz(path, "mnist", hint=" (from ORCH_MNIST)", is_scaled=True)
    keras_home = os.environ.get("KERAS_HOME")
    cache_folder = Path(keras_home) if keras_home else Path.home() / ".keras"
    cached = cache_folder / "datasets" / "mnist.npz"
    if not cached.exists() and not (_download_mnist() and cached.exists()):
        raise DataError(
            "MNIST cannot be had: it is not in ORCH_MNIST, not in Keras's cache, and the download "
            "failed; set ORCH_MNIST to a mnist.npz, or use the objective or --data digits"
        )
    hint = " (Keras's cache; delete it to load it anew)"
    return _read_npz(cached, "mnist", hint, is_scaled=True)


def _download_mnist() -> bool:
    """Let Keras load MNIST into its cache. Returns whether it could."""
    # In a process of its own: importing Keras brings TensorFlow, which this one may never need.
    code = (
        f"import socket; socket.setdefaulttimeout({_CONNECT_SECONDS}); "
        "import keras; keras.datasets.mnist.load_data()"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            timeout=_DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    # One fixed permutation: the file is in the order of its writers. Values 0..16 become 0..240,
    # so that the preprocessing is MNIST's.
    order = np.random.default_rng(0).permutation(len(bundled.target))
    images = (bundled.images[order] * 15).astype(np.uint8)
    labels = bundled.target[order].astype(np.int64)
    cut = len(labels) - _DIGITS_TEST
    parts = images[:cut], labels[:cut], images[cut:], labels[cut:]
    return _of_four("digits", "scikit-learn's bundled digits", parts, is_scaled=True)


def _read_npz(path: Path, name: str, hint: str = "", is_scaled: bool = False) -> Dataset:
    where = f"{path}{hint}"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in _wanted(file.files, where)}
    except FileNotFoundError:
        raise DataError(f"no file {where}; correct the path") from None
    except DataError:
        raise
    except Exception as error:  # damage surfaces as what zipfile, zlib, tokenize or NumPy raise
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{where} is damaged or no .npz file ({reason}); fetch it anew") from None
    for part in ("train", "val", "test"):
        _check_part(arrays, part, where)
    if list(arrays) == ["x_train", "y_train", "x_test", "y_test"]:
        return _of_four(name, str(path), tuple(arrays.values()), is_scaled)
    return Dataset(
        name, str(path), sha256_of_nest(arrays), "arrays", arrays["x_train"],
        arrays.get("y_train"), arrays.get("sample_weight"), _pair(arrays, "val"),
        _pair(arrays, "test"), is_scaled=is_scaled,
    )  # fmt: skip


def _of_four(name: str, source: str, parts: tuple[Array, ...], is_scaled: bool) -> Dataset:
    """Training and test set, pinned as orch 0.1.0 did it where the model gets what it got then."""
    x_train, y_train, x_test, y_test = parts
    as_before = is_scaled or x_train.dtype == np.float32
    return Dataset(
        name, source, sha256_of(*parts), None if as_before else "arrays", x_train, y_train,
        test_data=(x_test, y_test), is_scaled=is_scaled,
    )  # fmt: skip


def _wanted(names: list[str], where: str) -> list[str]:
    """The arrays that are used, in a fixed order.

    Raises:
        DataError: one is missing.
    """
    has_labels = any(f"y_{part}" in names for part in ("train", "val", "test"))
    needed = ["x_train"] + ["y_train"] * has_labels
    for part in ("val", "test"):
        if f"x_{part}" in names or f"y_{part}" in names:
            needed += [f"x_{part}"] + [f"y_{part}"] * has_labels
    missing = [key for key in needed if key not in names]
    if missing:
        raise DataError(
            f"{where} lacks {', '.join(missing)}; it needs x_train and y_train, and may have "
            "x_val and y_val, x_test and y_test, sample_weight"
        )
    return needed + [key for key in ("sample_weight",) if key in names]


def _check_part(arrays: Mapping[str, Array], part: str, where: str) -> None:
    x, y = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
    if x is None:
        return
    fault = None
    if x.ndim < 1 or len(x) == 0:
        fault = f"x_{part} must hold examples, its shape is {x.shape}"
    elif y is not None and (y.ndim < 1 or len(y) != len(x)):
        fault = f"y_{part} must have one label for each of {len(x)} examples, not {y.shape}"
    elif x.shape[1:] != arrays["x_train"].shape[1:]:
        fault = (
            f"examples of x_train have shape {arrays['x_train'].shape[1:]}, "
            f"of x_{part} {x.shape[1:]}"
        )
    if part == "train" and "sample_weight" in arrays and len(arrays["sample_weight"]) != len(x):
        fault = f"sample_weight must have one weight for each of {len(x)} examples"
    if fault is not None:
        raise DataError(f"{where} does not fit: {fault}")


def _pair(arrays: Mapping[str, Array], part: str) -> tuple[Any, ...] | None:
    if f"x_{part}" not in arrays:
        return None
    return arrays[f"x_{part}"], arrays.get(f"y_{part}")


def _count(parts: Any) -> int | None:
    """How many examples of ``(x, y)``; None: nobody knows."""
    return None if is_stream(parts) else examples_of(parts[0], "x")


def main(name: str) -> int:
    """``python -m orchestrator.training.data NAME``: where the data come from, in one line."""
    try:
        data = load(name)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    facts = data.facts(None)
    print(
        f"{data.name}: {data.examples} training and {facts.test} test examples "
        f"from {data.source}, SHA-256 {data.sha256[:12]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "mnist"))
