"""A folder of artifacts that all machines share."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from optuna.artifacts import FileSystemArtifactStore

from orchestrator.base.files import write_whole


class FolderArtifactStore(FileSystemArtifactStore):
    """Keeps artifacts in a folder; a file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        write_whole(self._folder / artifact_id, content_body.read())
