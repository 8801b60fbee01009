"""Processes of one machine share the arrays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from orchestrator.training import data, data_store
from orchestrator.training.compiled_epoch import as_tensor
from orchestrator.training.data_store import Sharing
from orchestrator.training.rounds import Rounds

PIXELS = np.random.default_rng(0).random((30, 8, 8), np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path))
    monkeypatch.setattr(data_store, "_LEAST_BYTES", 0)
    data.load.cache_clear()
    return tmp_path / "data"


def test_the_pixels_are_mapped_and_a_tensor_uses_the_same_memory(folder: Path) -> None:
    digits = data.load("digits")
    pixels = Rounds(digits, None, 0, 1)[0].x
    file = folder / f"{digits.sha256}-0-float32.npy"
    np.testing.assert_array_equal(np.load(file), digits.x_train)
    shared = np.from_dlpack(as_tensor(pixels))
    assert shared.ctypes.data == pixels.ctypes.data
    before = file.read_bytes()
    pixels[0] = 7
    assert file.read_bytes() == before, "a change stays in this process"


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_written_anew(folder: Path, damage: bytes | None) -> None:
    Sharing("some")(PIXELS)
    [file] = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"\1\2\3\4" if damage is None else damage)
    assert np.array_equal(Sharing("some")(PIXELS), PIXELS)
    assert file.read_bytes() == whole and [file] == list(folder.iterdir())


def test_data_that_nobody_has_opened_for_a_month_make_room_for_others(folder: Path) -> None:
    Sharing("some")(PIXELS)
    [file] = folder.iterdir()
    unused = [folder / "other-0-float32.npy", folder / "new-never-whole.npy"]
    for path in (file, *unused):
        path.touch()
        os.utime(path, (0, time.time() - 31 * 24 * 3600))
    assert Sharing("some")(PIXELS) is not PIXELS, "this one is wanted"
    Sharing("another")(PIXELS)
    assert [path.exists() for path in (file, *unused)] == [True, False, False]


def test_without_a_folder_everybody_has_a_copy(folder: Path) -> None:
    folder.write_text("a file where the folder would be")
    assert Sharing("some")(PIXELS) is PIXELS


def test_arrays_of_any_type_are_shared_or_stay(folder: Path) -> None:
    arrays = [
        np.array(["a", "bc"]),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.array([True, False]),
        np.array(["a", None], object),
    ]
    shared = [Sharing(str(place))(array) for place, array in enumerate(arrays)]
    for before, after in zip(arrays, shared, strict=True):
        assert before.dtype == after.dtype and np.array_equal(before, after)
    assert len(list(folder.iterdir())) == 3, "objects have no file"
