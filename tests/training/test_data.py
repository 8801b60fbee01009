"""Datasets: sources and their order, splits, fingerprints, damage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import DataError
from orchestrator.training import data


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    data.load.cache_clear()
    yield
    data.load.cache_clear()


def arrays(**changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    made = {
        "x_train": generator.integers(0, 255, (12, 4, 4)).astype(np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": generator.integers(0, 255, (6, 4, 4)).astype(np.uint8),
        "y_test": np.arange(6) % 3,
    }
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


def write(path: Path, **changes: Any) -> str:
    np.savez(path, **arrays(**changes))
    return str(path)


def test_an_npz_in_keras_format_is_read(tmp_path: Path) -> None:
    loaded = data.load(write(tmp_path / "own.npz"))
    assert (len(loaded.x_train), len(loaded.x_test), loaded.classes) == (12, 6, 3)
    assert loaded.name == "own.npz"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, "lacks y_test"),
        ({"x_train": None}, "lacks x_train"),
        ({"x_val": np.zeros((2, 4, 4))}, "lacks y_val"),
        ({"y_train": np.arange(5)}, "one label for each of 12 examples"),
        ({"sample_weight": np.ones(3)}, "one weight for each of 12 examples"),
        ({"x_test": np.zeros((6, 5, 5))}, "have shape"),
        ({"x_train": np.zeros((0, 4, 4)), "y_train": np.zeros(0, int)}, "must hold examples"),
        ({"x_train": np.full((12, 4, 4), None)}, "damaged or no .npz"),
    ],
)
def test_a_misshaped_npz_is_one_clear_error(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    if changes.get("x_train") is not None and changes["x_train"].dtype == object:
        np.savez(tmp_path / "own.npz", **arrays(**changes))  # pickled: never loaded
    else:
        write(tmp_path / "own.npz", **changes)
    with pytest.raises(DataError) as caught:
        data.load(str(tmp_path / "own.npz"))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_truncated_npz_is_one_clear_error(tmp_path: Path, kept: int) -> None:
    path = Path(write(tmp_path / "own.npz"))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"damaged or no \.npz file"):
        data.load(str(path))


def test_damage_anywhere_in_an_npz_is_one_clear_error(tmp_path: Path) -> None:
    """zipfile, zlib, tokenize and NumPy each have their own exceptions for it."""
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        data.load.cache_clear()
        try:
            data.load(str(path))
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > len(whole) / 10, "most damage is noticed"


def test_an_npy_file_named_npz_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", np.zeros((3, 4)))
    (tmp_path / "own.npy").rename(tmp_path / "own.npz")
    with pytest.raises(DataError, match=r"damaged or no \.npz file"):
        data.load(str(tmp_path / "own.npz"))


def test_a_missing_file_and_an_unknown_name_are_named() -> None:
    with pytest.raises(DataError, match=r"no file gone\.npz"):
        data.load("gone.npz")
    with pytest.raises(DataError, match="known are digits and mnist"):
        data.load("cifar")


def test_the_fingerprint_depends_on_the_arrays_not_the_file(tmp_path: Path) -> None:
    plain = data.load(write(tmp_path / "plain.npz"))
    np.savez_compressed(tmp_path / "packed.npz", **arrays())
    packed = data.load(str(tmp_path / "packed.npz"))
    other = data.load(write(tmp_path / "other.npz", y_train=(np.arange(12) + 1) % 3))
    assert plain.sha256 == packed.sha256 != other.sha256


def test_orch_mnist_takes_precedence_over_keras_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "keras" / "datasets"
    cache.mkdir(parents=True)
    write(cache / "mnist.npz")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("ORCH_MNIST", raising=False)
    assert data.load("mnist").source == str(cache / "mnist.npz")
    data.load.cache_clear()
    monkeypatch.setenv("ORCH_MNIST", write(tmp_path / "named.npz"))
    assert data.load("mnist").source == str(tmp_path / "named.npz")


def test_a_wrong_orch_mnist_has_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_MNIST", "gone.npz")
    with pytest.raises(DataError, match="from ORCH_MNIST"):
        data.load("mnist")


def test_with_no_source_the_error_names_the_three_ways_and_digits(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.training.data", "mnist"],
        # A proxy that refuses: the download fails at once on any machine.
        env={"KERAS_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": "",
             "https_proxy": "http://127.0.0.1:1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    for way in ("ORCH_MNIST", "Keras's cache", "download", "digits"):
        assert way in line


def test_digits_need_no_network_and_never_change() -> None:
    digits = data.load("digits")
    assert (len(digits.x_train), len(digits.x_test), digits.classes) == (1437, 360, 10)
    assert digits.sha256.startswith("2dda6fe40fdf")


def test_pixels_of_mnist_and_digits_come_from_0_to_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCH_MNIST", write(tmp_path / "named.npz"))
    for name in ("mnist", "digits"):
        images = data.load(name).x_train
        assert images.dtype == np.float32 and 0.9 < images.max() <= 1 and images.min() < 0.01


@pytest.mark.parametrize(
    "x",
    [
        np.arange(48, dtype=np.uint8).reshape(12, 4),
        np.arange(12, dtype=np.int64) + 2**24,
        np.arange(12) > 5,
        np.array([f"text {place}" for place in range(12)]),
        np.linspace(0, 1, 12),
    ],
    ids=lambda x: str(x.dtype),
)
def test_arrays_of_a_file_stay_as_they_are(tmp_path: Path, x: Any) -> None:
    path = write(tmp_path / "own.npz", x_train=x, x_test=x[:6], y_train=np.linspace(0, 1, 12))
    loaded = data.load(path)
    assert loaded.x_train.dtype == x.dtype and np.array_equal(loaded.x_train, x)
    assert loaded.facts(None).pinned_by == "arrays"


def test_a_file_may_bring_validation_data_and_no_test_set(tmp_path: Path) -> None:
    path = write(
        tmp_path / "own.npz", x_val=np.ones((3, 4, 4)), y_val=np.arange(3), x_test=None, y_test=None
    )
    loaded = data.load(path)
    facts = loaded.facts(None)
    assert (facts.train, facts.validation, facts.test, loaded.test) == (12, 3, 0, None)
    assert np.array_equal(loaded.validation_data[1], np.arange(3))


def test_a_file_without_labels_is_for_models_that_need_none(tmp_path: Path) -> None:
    path = write(tmp_path / "own.npz", y_train=None, y_test=None)
    loaded = data.load(path)
    assert loaded.y_train is None and loaded.test is not None and loaded.test[1] is None


def test_the_real_mnist_has_the_expected_fingerprint(mnist: str) -> None:
    loaded = data.load("mnist")
    assert (loaded.x_train.shape, loaded.x_test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert loaded.facts(None).validation == 10000
