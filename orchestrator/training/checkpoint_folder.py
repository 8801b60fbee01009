"""The folder in which a command leaves its checkpoints, and its copy as bytes."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Self

from orchestrator.errors import ObjectiveError


class CheckpointFolder:
    """A temporary folder of one attempt; a context manager, which removes it.

    Files, folders and links that stay inside are copied; sockets and the like are not.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="orch-checkpoints-"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def size(self) -> int | None:
        """The bytes of its files; None: it holds no files."""
        sizes = [facts.st_size for _, facts in self._entries() if not stat.S_ISDIR(facts.st_mode)]
        return sum(sizes) if sizes else None

    def copy(self) -> bytes:
        """Everything in it, as a tar file."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, facts in self._entries():
                # What was renamed or removed meanwhile stands under another name, or nowhere.
                with contextlib.suppress(FileNotFoundError):
                    self._add(archive, path, facts)
        return buffer.getvalue()

    def fill(self, content: bytes) -> None:
        """Put a copy back. It comes from the database: nothing is written outside of the folder.

        Raises:
            ObjectiveError: it is damaged, or leads outside.
            OSError: the disk does not take it.
        """
        links: list[tuple[Path, str]] = []
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                for member in archive:
                    path = self._inside(member.name)
                    if member.isdir():
                        path.mkdir(parents=True, exist_ok=True)
                    elif member.issym():
                        links.append((path, member.linkname))
                    elif member.isreg():
                        self._write(path, archive, member)
        except tarfile.TarError as error:
            raise ObjectiveError(f"the checkpoint is damaged: {error}") from None
        for path, target in links:  # last, so that no file is written through one
            if _stays_inside(target):
                path.symlink_to(target)

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, folders, files in os.walk(self.path):
            for name in sorted(folders + files):
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    yield path, path.lstat()

    def _add(self, archive: tarfile.TarFile, path: Path, facts: os.stat_result) -> None:
        entry = tarfile.TarInfo(path.relative_to(self.path).as_posix())
        entry.mode = stat.S_IMODE(facts.st_mode)
        if stat.S_ISDIR(facts.st_mode):
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        elif stat.S_ISLNK(facts.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
            if _stays_inside(entry.linkname):
                archive.addfile(entry)
        elif stat.S_ISREG(facts.st_mode):
            with path.open("rb") as file:
                content = file.read(facts.st_size)  # it may be growing
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    def _inside(self, name: str) -> Path:
        if not _stays_inside(name):
            raise ObjectiveError(f"the checkpoint has a file outside of its folder: {name!r}")
        return self.path / name

    def _write(self, path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = archive.extractfile(member)
        assert file is not None
        path.write_bytes(file.read())
        path.chmod(member.mode & 0o777)


def _stays_inside(name: str) -> bool:
    """Whether a path is relative and never goes up."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
