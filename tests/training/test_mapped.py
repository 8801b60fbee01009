"""Processes of one machine share the scaled images."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from orchestrator.training import rounds as module
from orchestrator.training.compiled_epoch import as_tensor
from orchestrator.training.data import Dataset, load
from orchestrator.training.rounds import Rounds, scaled


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images that are worth a file: 18 MB as floats."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("own") / "own.npz"
    images = random.integers(0, 256, (6000, 28, 28), np.uint8)
    labels = random.integers(0, 10, 6000)
    np.savez(path, x_train=images, y_train=labels, x_test=images[::-1], y_test=labels)
    return load(str(path))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    return tmp_path / "data"


def test_pixels_are_memory_mapped_and_shared_with_the_tensor(folder: Path, data: Dataset) -> None:
    pixels = Rounds(data, None, 0, 1)[0].x_train
    [file] = folder.iterdir()
    np.testing.assert_array_equal(np.load(file), scaled(data.x_train))
    shared = np.from_dlpack(as_tensor(pixels))
    assert shared.ctypes.data == pixels.ctypes.data
    before = file.read_bytes()
    pixels[0] = 7
    assert file.read_bytes() == before, "a change stays in this process"


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_file_is_rewritten(
    folder: Path, data: Dataset, damage: bytes | None
) -> None:
    pixels = scaled(data.x_train)
    assert module.mapped(data, pixels) is not None
    [file] = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"\1\2\3\4" if damage is None else damage)
    again = module.mapped(data, pixels)
    assert again is not None and np.array_equal(again, pixels)
    assert file.read_bytes() == whole and [file] == list(folder.iterdir())


def test_cached_data_unused_for_a_month_is_removed(folder: Path, data: Dataset) -> None:
    module.mapped(data, scaled(data.x_train))
    [file] = folder.iterdir()
    unused = [folder / "other-float32.npy", folder / "new-never-whole.npy"]
    for path in (file, *unused):
        path.touch()
        os.utime(path, (0, time.time() - 31 * 24 * 3600))
    assert module.mapped(data, scaled(data.x_train)) is not None, "this one is wanted"
    module.mapped(data, scaled(data.x_test))
    assert [path.exists() for path in (file, *unused)] == [True, False, False]


def test_without_a_cache_folder_each_process_has_a_copy(folder: Path, data: Dataset) -> None:
    folder.write_text("a file where the folder would be")
    pixels = Rounds(data, None, 0, 1)[0].x_train
    np.testing.assert_array_equal(pixels, scaled(data.x_train)[: len(pixels)])
