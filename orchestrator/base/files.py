"""Files that are either whole or not there, and go when nobody wants them any more."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import platformdirs

_HOME_OF_ROOT = Path("/var/lib/orch")


def home() -> Path:
    """``$ORCH_HOME``, or the platform's user data folder.

    For root it is ``/var/lib/orch`` where root's own folder is closed to others: PostgreSQL does
    not run as root, and the system user that it runs as must reach the data.
    """
    configured = os.environ.get("ORCH_HOME")
    if configured:
        return Path(configured).expanduser()
    own = platformdirs.user_data_path("orch")
    if os.geteuid() != 0 or own.exists() or not Path.home().exists():
        return own
    return own if Path.home().stat().st_mode & 0o001 else _HOME_OF_ROOT


def write_whole(path: Path, content: bytes, private: bool = False) -> None:
    """Write under a temporary name beside ``path``, sync, rename.

    Args:
        path: where.
        content: all of it.
        private: nobody but this user may read it; otherwise as the user's umask says.

    Raises:
        OSError: it cannot be written; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    mode = 0o600 if private else 0o666
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Check that ``path`` can be written, and leave nothing: for what takes minutes to make.

    Raises:
        OSError: it cannot be.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    # Permissions alone do not tell: a disk may be read-only, and root may write anywhere.
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    temporary.unlink()


def remove_old(paths: Iterable[Path], days: float) -> None:
    """Remove the files and folders that were not written for this many days."""
    for path in paths:
        with contextlib.suppress(OSError):  # another process may have been quicker
            if time.time() - path.stat().st_mtime > days * 24 * 3600:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
