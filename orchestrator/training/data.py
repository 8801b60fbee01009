"""Datasets: where they come from, how they are split, and what identifies them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import DataError

Array = NDArray[Any]

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_CONNECT_SECONDS, _DOWNLOAD_SECONDS = 20.0, 600.0
_DIGITS_TEST = 360


@dataclass(frozen=True)
class DataFacts:
    """What a study pins of its data.

    Attributes:
        name: the data set's name.
        sha256: of the arrays, see :attr:`Dataset.sha256`.
        train: examples to train on.
        validation: examples held out of the training set.
        test: examples of the test set.
        shape: of one example.
    """

    name: str
    sha256: str
    train: int
    validation: int
    test: int
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON-able, and equal for equal facts."""
        return {**asdict(self), "shape": list(self.shape)}


@dataclass(frozen=True)
class Dataset:
    """Labelled examples.

    Attributes:
        name: as the user named it; a file's name for a PATH.npz.
        source: where it was read from, for people.
        x_train: shape (n, ...), numbers.
        y_train: shape (n,), class numbers from 0.
        x_test: shape (m, ...).
        y_test: shape (m,).
    """

    name: str
    source: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array

    @property
    def classes(self) -> int:
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    @cached_property
    def sha256(self) -> str:
        """Of the arrays' types, shapes and bytes: a recompressed file is the same data."""
        return sha256_of(self.x_train, self.y_train, self.x_test, self.y_test)

    def facts(self, validation: int | None, folds: int = 0) -> DataFacts:
        """What a study pins.

        Args:
            validation: examples held out; None: a sixth.
            folds: k of k-fold cross-validation, which holds out one fold at a time.
        """
        held_out = len(self.x_train) // folds if folds else self.held_out(validation)
        return DataFacts(
            name=self.name,
            sha256=self.sha256,
            train=len(self.x_train) - held_out,
            validation=held_out,
            test=len(self.x_test),
            shape=self.x_train.shape[1:],
        )

    def held_out(self, validation: int | None) -> int:
        """How many training examples validate; None: a sixth, 10,000 of MNIST's 60,000.

        Raises:
            DataError: there are not that many.
        """
        return held_out_of(len(self.x_train), validation, f"training examples of {self.name}")


def sha256_of(*arrays: Array) -> str:
    """The SHA-256 of the arrays' types, shapes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        # Strings and other objects have no bytes of their own to compare.
        plain = array.astype(str) if array.dtype == object else array
        digest.update(np.ascontiguousarray(plain).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


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


@dataclass(frozen=True)
class Split:
    """The training set cut in two. Shapes as in :class:`Dataset`."""

    x_train: Array
    y_train: Array
    x_validation: Array
    y_validation: Array


def split(dataset: Dataset, validation: int | None) -> Split:
    """Hold out the last ``validation`` training examples, as Keras's ``validation_split`` does.

    Raises:
        DataError: there are not that many.
    """
    cut = len(dataset.x_train) - dataset.held_out(validation)
    x, y = dataset.x_train, dataset.y_train
    return Split(x[:cut], y[:cut], x[cut:], y[cut:])


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
    raise DataError(f"unknown data set '{name}'; known are digits and mnist, or write PATH.npz")


def _load_mnist() -> Dataset:
    named = os.environ.get("ORCH_MNIST")
    if named:
        return _read_npz(Path(named).expanduser(), "mnist", hint=" (from ORCH_MNIST)")
    keras_home = os.environ.get("KERAS_HOME")
    cache_folder = Path(keras_home) if keras_home else Path.home() / ".keras"
    cached = cache_folder / "datasets" / "mnist.npz"
    if not cached.exists() and not (_download_mnist() and cached.exists()):
        raise DataError(
            "MNIST cannot be had: it is not in ORCH_MNIST, not in Keras's cache, and the download "
            "failed; set ORCH_MNIST or --data to a mnist.npz, or use the objective or --data digits"
        )
    return _read_npz(cached, "mnist", hint=" (Keras's cache; delete it to load it anew)")


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
    source = "scikit-learn's bundled digits"
    return Dataset("digits", source, images[:cut], labels[:cut], images[cut:], labels[cut:])


def _read_npz(path: Path, name: str, hint: str = "") -> Dataset:
    where = f"{path}{hint}"
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in _ARRAYS if key not in file.files]
            if missing:
                raise DataError(
                    f"{where} lacks {', '.join(missing)}; it needs {', '.join(_ARRAYS)}"
                )
            arrays = [file[key] for key in _ARRAYS]
    except FileNotFoundError:
        raise DataError(f"no file {where}; correct the path") from None
    except DataError:
        raise
    except Exception as error:  # damage surfaces as what zipfile, zlib, tokenize or NumPy raise
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{where} is damaged or no .npz file ({reason}); fetch it anew") from None
    return _checked(Dataset(name, str(path), *arrays), where)


def _checked(data: Dataset, where: str) -> Dataset:
    fault = _fault("train", data.x_train, data.y_train) or _fault("test", data.x_test, data.y_test)
    if fault is None and data.x_train.shape[1:] != data.x_test.shape[1:]:
        fault = (
            f"examples of x_train have shape {data.x_train.shape[1:]}, "
            f"of x_test {data.x_test.shape[1:]}"
        )
    if fault is not None:
        raise DataError(f"{where} does not fit: {fault}")
    return data


def _fault(part: str, x: Array, y: Array) -> str | None:
    if x.ndim < 2 or len(x) == 0:
        return f"x_{part} must hold examples, its shape is {x.shape}"
    if y.shape != (len(x),):
        return f"y_{part} must have one label for each of {len(x)} examples, its shape is {y.shape}"
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        return f"y_{part} must be class numbers from 0"
    if not np.issubdtype(x.dtype, np.number):
        return f"x_{part} must be numbers, not {x.dtype}"
    if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
        return f"x_{part} has values that are not finite"
    return None


def main(name: str) -> int:
    """``python -m orchestrator.training.data NAME``: where the data come from, in one line."""
    try:
        data = load(name)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{data.name}: {len(data.x_train)} training and {len(data.x_test)} test examples "
        f"from {data.source}, SHA-256 {data.sha256[:12]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "mnist"))
