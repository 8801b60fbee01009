"""Processes of one machine share the arrays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from orchestrator.training.arrays import Sharing
from orchestrator.training.compiled_epoch import as_tensor
from orchestrator.training.data import load
from orchestrator.training.rounds import Rounds

PIXELS = np.random.default_rng(0).random((6000, 28, 28), np.float32)  # worth a file: 18 MB


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    return tmp_path / "data"


def test_arrays_are_memory_mapped_and_shared_with_the_tensor(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x_train=PIXELS, y_train=np.arange(6000) % 10)
    dataset = load(str(path))
    pixels = Rounds(dataset, None, 0, 1)[0].x
    [file] = folder.iterdir()
    assert file.name == f"{dataset.sha256}-0-float32.npy"
    np.testing.assert_array_equal(np.load(file), PIXELS)
    shared = np.from_dlpack(as_tensor(pixels))
    assert shared.ctypes.data == pixels.ctypes.data
    before = file.read_bytes()
    pixels[0] = 7
    assert file.read_bytes() == before, "a change stays in this process"


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_damaged_file_is_rewritten(folder: Path, damage: bytes | None) -> None:
    Sharing("some")(PIXELS)
    [file] = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"\1\2\3\4" if damage is None else damage)
    assert np.array_equal(Sharing("some")(PIXELS), PIXELS)
    assert file.read_bytes() == whole and [file] == list(folder.iterdir())


def test_files_unused_for_a_month_are_removed(folder: Path) -> None:
    Sharing("some")(PIXELS)
    [file] = folder.iterdir()
    unused = [folder / "other-0-float32.npy", folder / "new-never-whole.npy"]
    for path in (file, *unused):
        path.touch()
        os.utime(path, (0, time.time() - 31 * 24 * 3600))
    assert Sharing("some")(PIXELS) is not PIXELS, "this one is wanted"
    Sharing("another")(PIXELS)
    assert [path.exists() for path in (file, *unused)] == [True, False, False]


def test_without_a_folder_each_process_has_a_copy(folder: Path) -> None:
    folder.write_text("a file where the folder would be")
    assert Sharing("some")(PIXELS) is PIXELS


def test_arrays_of_any_type_are_shared_or_stay(folder: Path) -> None:
    arrays = [
        np.full(2**22, "a"),
        np.full(2**21, "2026-01-01", "datetime64[D]"),
        np.ones(2**24, bool),
        np.full(2**21, None, object),
    ]
    shared = [Sharing(str(place))(array) for place, array in enumerate(arrays)]
    for before, after in zip(arrays, shared, strict=True):
        assert before.dtype == after.dtype and bool((before == after).all())
    assert len(list(folder.iterdir())) == 3, "objects have no file"
