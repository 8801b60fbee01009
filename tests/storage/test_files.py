"""Files are whole or not there, and nobody reads what is private."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orchestrator.base.files import write_whole


def test_a_file_has_the_permissions_of_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "report.html", b"for everybody")
        write_whole(tmp_path / "roles.pgpass", b"for me", private=True)
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {"report.html": 0o644, "roles.pgpass": 0o600}
