"""The folder of a server's socket: this user's alone, checked whenever it is used.

Who can enter it can reach the server; who can write there can put another server in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import stat
import sys
from pathlib import Path

from orchestrator.errors import StorageError
from orchestrator.storage.programs import SystemUser

PORT = 5432
_LONGEST_PATH = 107 if sys.platform == "linux" else 103  # bytes of a socket's path


def make_socket_folder(home: Path, data: Path, user: SystemUser) -> Path:
    """Make the folder for the socket of a server, or check the one that it had before.

    Args:
        home: where it lies, unless the path would be too long for a socket.
        data: the server's data folder. Another one that takes its place has another socket folder:
            a server whose data was removed removes its socket when it ends, a minute later.
        user: whom the server runs as.

    Raises:
        StorageError: another user has or may enter a folder of that name.
    """
    identity = (data / "global" / "pg_control").read_bytes()[:8]  # initdb's number of the cluster
    name = hashlib.sha256(os.fsencode(data) + identity).hexdigest()[:10]
    for folder in _candidates(home, name, user):
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= _LONGEST_PATH:
            if folder.parent == _of_user(user):
                _make_private(folder.parent, user)
            _make_private(folder, user)
            return folder
    raise StorageError("no path for a socket is short enough; set ORCH_HOME to a shorter path")


def check_socket_folder(folder: Path, user: SystemUser) -> None:
    """Check that nobody else can enter a server's socket folder, or put another in its place.

    Raises:
        StorageError: somebody can; the message says how to mend it.
    """
    for each in (folder.parent, folder) if folder.parent == _of_user(user) else (folder,):
        problem = _problem(each, user)
        if problem is not None:
            raise StorageError(
                f"{each}, a folder for the socket of the embedded PostgreSQL, {problem}, so that "
                "other users could reach the server; remove it, or set XDG_RUNTIME_DIR to a folder "
                "of yours with mode 0700, or ORCH_HOME to a shorter path"
            )


def is_private(folder: Path, user: SystemUser) -> bool:
    """Whether nobody else (but root) may enter it."""
    return _problem(folder, user) is None


def _candidates(home: Path, name: str, user: SystemUser) -> list[Path]:
    found = [home / f"run-{name}"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # Root's own is closed to the user that root's server runs as.
    if runtime and os.geteuid() == user.uid and is_private(Path(runtime), user):
        found.append(Path(runtime) / f"orch-{name}")
    return [*found, _of_user(user) / name]


def _of_user(user: SystemUser) -> Path:
    """Where any user may make a folder; that it is ours must be checked."""
    return Path("/tmp") / f"orch-{user.uid}"


def _make_private(folder: Path, user: SystemUser) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        user.own(folder)
    check_socket_folder(folder, user)


def _problem(folder: Path, user: SystemUser) -> str | None:
    try:
        found = folder.lstat()
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid not in (user.uid, os.geteuid()):
        return f"belongs to user {_name(found.st_uid)}"
    if found.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}"
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
