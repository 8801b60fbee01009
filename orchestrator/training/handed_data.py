"""Data as Python hands them over: kept on this machine, named by their digest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.base.files import remove_old, write_whole
from orchestrator.errors import DataError
from orchestrator.training.arrays import UNUSED_DAYS, data_folder, open_array, write_array
from orchestrator.training.data_source import as_mapping, sha256_of_data, streams_of
from orchestrator.training.handover import ARRAYS, Handover, digest_of, reference_of

_NAME_DIGITS = 16
_NAME = re.compile(f"{ARRAYS}[0-9a-f]{{{_NAME_DIGITS}}}")
_CONTENT = "content"
_SUMS = "checksums.json"
_PART_BYTES = 2**22
_INFINITE = -1  # tf.data's own


def hand_over_data(data: Any, fingerprint: str | None = None) -> Handover:
    """Data of Python as what a study stores, and what its workers are given.

    Args:
        data: a function that makes them, or what such a function returns.
        fingerprint: pins the data; None: their content does.

    Raises:
        DataError: it is not what ``model.fit`` takes.
    """
    if callable(data):
        return Handover(reference_of(data), data, digest_of(data))
    found = as_mapping(data, "data")
    named = fingerprint or found.get("fingerprint")
    live = [each for each in streams_of(found) if not _can_be_kept(each)]
    if live:
        # For trials of this process alone: no other could have them.
        kind = type(live[0]).__name__
        return Handover(f"__main__:<{kind}>", found, hashlib.sha256(kind.encode()).hexdigest())
    digest = _digest(found) if named is None else hashlib.sha256(str(named).encode()).hexdigest()
    return Handover(f"{ARRAYS}{digest[:_NAME_DIGITS]}", found, digest)


def keep(handed: Handover) -> None:
    """Write the data where the workers of this machine find them, unless they are there.

    Raises:
        DataError: they cannot be written.
    """
    folder = _folder(handed.reference)
    if (folder / _CONTENT).is_file():
        _touch(folder)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    others = [each.parent for each in folder.parent.glob(f"*/{_CONTENT}")]
    remove_old(others, UNUSED_DAYS)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix="new-"))
    try:
        content = io.BytesIO()
        _pickler(content, temporary).dump((handed.digest, handed.target))
        write_whole(temporary / _CONTENT, content.getvalue())
        write_whole(temporary / _SUMS, json.dumps(_sums(temporary)).encode())
        with contextlib.suppress(FileExistsError, OSError):  # another process may have been quicker
            temporary.rename(folder)
    except OSError as error:
        raise DataError(f"cannot keep the data in {folder}: {error.strerror}") from None
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"the data cannot be kept for worker processes ({reason}); give a function that makes "
            "them"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for path, size in _saved_datasets(folder):
        print(f"orch: saved the tf.data.Dataset once, {_megabytes(size)}: {path}", file=sys.stderr)


def read(reference: str) -> tuple[dict[str, Any], str]:
    """What was kept, its arrays mapped into memory, and its digest.

    Raises:
        DataError: it is not on this machine.
    """
    if not _NAME.fullmatch(reference):
        # It comes from the study: as a path it could lead to any file of this machine.
        raise DataError(f"'{reference}' does not name data that were handed over in Python")
    folder = _folder(reference)
    try:
        with (folder / _CONTENT).open("rb") as file:
            if json.loads((folder / _SUMS).read_text()) != _sums(folder):
                raise ValueError("its files are not those that were written")
            digest, found = _Unpickler(file, folder).load()
    except FileNotFoundError:
        raise DataError(
            f"the data {reference} were handed over in Python and are not on this machine; run the "
            "study where they are, or give data a name, a file or a function that every worker can "
            "import"
        ) from None
    except Exception as error:  # pickle and NumPy raise anything for damage
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"the data in {folder} cannot be read ({reason}); delete that folder, and hand them "
            "over again with create_study(…, data=…)"
        ) from None
    _touch(folder)
    return found, digest


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder

    def persistent_load(self, name: str) -> Any:
        path = self._folder / name
        if name.endswith(".npy"):
            return open_array(path)
        import tensorflow as tf

        return tf.data.Dataset.load(str(path))


def _pickler(file: io.BytesIO, folder: Path) -> Any:
    """A pickler that puts arrays, and the elements of Datasets, into files of their own."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        names: dict[int, str] = {}  # noqa: RUF012

        def persistent_id(self, each: Any) -> str | None:
            if id(each) in self.names:
                return self.names[id(each)]
            place = f"{len(self.names)}"
            if isinstance(each, np.ndarray) and not each.dtype.hasobject and each.dtype.kind != "T":
                name = f"{place}.npy"
                write_array(folder / name, each)
            elif _is_dataset(each):
                name = f"{place}.dataset"
                each.save(str(folder / name))
            else:
                return None
            self.names[id(each)] = name
            return name

    pickler = Pickler(file)
    pickler.names = {}
    return pickler


def _digest(found: Mapping[str, Any]) -> str:
    elements = {
        key: _digest_of_elements(each) if _is_dataset(each) else each for key, each in found.items()
    }
    return sha256_of_data(elements)


def _digest_of_elements(dataset: Any) -> str:
    import tensorflow as tf

    digest, size = hashlib.sha256(), 0
    limit = _free_bytes() // 2
    for element in dataset:
        for tensor in tf.nest.flatten(element, expand_composites=True):
            array = np.asarray(tensor)
            size += array.nbytes
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(
                repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
            )
        if size > limit:
            raise DataError(
                f"the tf.data.Dataset has more than {_megabytes(limit)}, half of the free disk of "
                f"{data_folder()}; give a function that makes it, or run with workers=0"
            )
    return digest.hexdigest()


def _can_be_kept(stream: Any) -> bool:
    if _is_dataset(stream):
        return int(stream.cardinality()) != _INFINITE
    return not hasattr(stream, "__next__")


def _is_dataset(each: Any) -> bool:
    return any(
        kind.__name__ == "DatasetV2" and kind.__module__.startswith("tensorflow.")
        for kind in type(each).__mro__
    )


def _folder(reference: str) -> Path:
    return data_folder() / reference.removeprefix(ARRAYS)


def _sums(folder: Path) -> dict[str, int]:
    """A checksum of each file that :func:`keep` has written."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _SUMS:
            checksum = 0
            with path.open("rb") as file:
                while part := file.read(_PART_BYTES):
                    checksum = zlib.crc32(part, checksum)
            sums[str(path.relative_to(folder))] = checksum
    return sums


def _touch(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(folder)


def _saved_datasets(folder: Path) -> list[tuple[Path, int]]:
    found = sorted(folder.glob("*.dataset"))
    return [
        (path, sum(each.stat().st_size for each in path.rglob("*") if each.is_file()))
        for path in found
    ]


def _free_bytes() -> int:
    folder = data_folder()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _megabytes(size: int) -> str:
    return f"{max(size, 1) / 1e6:,.1f} MB"
