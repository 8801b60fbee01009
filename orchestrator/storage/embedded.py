"""The embedded PostgreSQL: one server for each ORCH_HOME, started on demand.

It keeps running when the command that started it ends; ``orch db stop`` ends it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fasteners
import psutil

from orchestrator.base.files import write_whole
from orchestrator.errors import StorageError
from orchestrator.storage.connection import connect
from orchestrator.storage.programs import Programs, SystemUser

START_PATIENCE_SECONDS = 30.0
_ORPHAN_SECONDS = 10.0
_FRESH = ".new-"


@dataclass(frozen=True)
class _Postmaster:
    """What a server writes into ``postmaster.pid``."""

    pid: int
    port: int
    socket_folder: str
    host: str


class EmbeddedServer:
    """The PostgreSQL server that lives in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "postgres"
        self._programs = Programs(self.folder, self.data)

    def url(self) -> str | None:
        """The URL of the running server; None when it does not run or does not answer.

        Raises:
            StorageError: other users of this machine could reach the server.
        """
        postmaster = self._postmaster()
        if postmaster is None:
            return None
        if postmaster.socket_folder:
            if not self._is_protected(postmaster):
                return None
            # libpq asks the kernel whose process answers, whenever it connects.
            query = {
                "host": postmaster.socket_folder,
                "port": str(postmaster.port),
                "requirepeer": self._programs.user.name,
            }
            settings = "&".join(f"{key}={quote(value)}" for key, value in query.items())
            url = f"postgresql://{ADMINISTRATOR}@/postgres?{settings}"
        else:
            host = postmaster.host or "127.0.0.1"
            url = f"postgresql://{ADMINISTRATOR}@{host}:{postmaster.port}/postgres"
        try:
            connect(url).close()
        except StorageError:
            return None
        return url

    def ensure_running(self) -> str:
        """Start the server unless it runs.

        Returns:
            Its URL.

        Raises:
            StorageError: it could not be started; the message has the log's last line.
        """
        url = self.url()
        if url is not None:
            return url
        try:
            self._make_folder()
            with self._lock():
                return self.url() or self._start()
        except OSError as error:
            raise StorageError(
                f"cannot use {self.folder} for the embedded PostgreSQL: {error.strerror or error}; "
                "set ORCH_HOME to a folder that you may write"
            ) from None

    def stop(self) -> bool:
        """Stop the server; connections are closed. False: it did not run."""
        if not self.data.exists():
            return False
        with self._lock():
            postmaster = self._postmaster()
            if postmaster is None or not self._is_ours(postmaster.pid):
                return False
            try:
                self._postgres("pg_ctl", "-w", "-D", str(self.data), "-m", "fast", "stop")
                with contextlib.suppress(OSError):  # it is in use, or holds what is not ours
                    Path(postmaster.socket_folder).rmdir()
            except subprocess.CalledProcessError:
                if self._is_ours(postmaster.pid):
                    raise StorageError(
                        f"the embedded PostgreSQL in {self.data} does not stop: "
                        f"{self._last_log_line()}"
                    ) from None
            return True

    def pid(self) -> int | None:
        """The process of the running server."""
        postmaster = self._postmaster()
        return postmaster.pid if postmaster and self._is_ours(postmaster.pid) else None

    def _start(self) -> str:
        deadline = time.monotonic() + START_PATIENCE_SECONDS
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        while True:
            self._remove_stale_pid_file()
            try:
                self._launch()
            except subprocess.CalledProcessError:
                # A killed server's children may hold its memory for a moment longer.
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"the embedded PostgreSQL in {self.data} does not start: "
                        f"{self._last_log_line()}"
                    ) from None
            url = self.url()
            if url is not None:
                return url
            time.sleep(0.3)
            if time.monotonic() > deadline + START_PATIENCE_SECONDS:
                raise StorageError(
                    f"the embedded PostgreSQL in {self.data} started but does not answer: "
                    f"{self._last_log_line()}"
                )

    def _make_folder(self) -> None:
        missing = [each for each in (self.folder, *self.folder.parents) if not each.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            for each in missing:  # whatever the umask: the server's own user must pass
                each.chmod(each.stat().st_mode | 0o011)

    def _launch(self) -> None:
        user = self._programs.user
        self._programs.check_way(self.data)
        protect(self.data, user)
        folder = make_socket_folder(self.folder, self.data, user)
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._postgres(
            "pg_ctl", "-w", "-t", "10", "-D", str(self.data), "-l", str(self.data / "log"),
            "-o", shlex.join(options), "start",
        )  # fmt: skip

    def _initialise(self) -> None:
        self._end_orphans()
        # Under a temporary name first: a half-made cluster never carries the real one.
        fresh = Path(tempfile.mkdtemp(prefix=_FRESH, dir=self.folder))
        try:
            user = self._programs.user
            user.own(fresh)
            self._programs.check_way(fresh)
            self._postgres(
                "initdb", "--auth=trust", "--encoding=utf8", f"--username={ADMINISTRATOR}",
                "-D", str(fresh),
            )  # fmt: skip
            protect(fresh, user)
            if self.data.exists():
                self.data.rename(self.folder / f"postgres.incomplete-{int(time.time())}")
            fresh.rename(self.data)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["it said nothing"]
            raise StorageError(
                f"the embedded PostgreSQL in {self.data} cannot be made: {lines[-1]}"
            ) from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _end_orphans(self) -> None:
        # Servers of a home that was removed notice it after a minute, and until then hold memory
        # that the new one may take for its own. An initdb outlives the command that was killed.
        orphans = []
        for each in psutil.process_iter(["name", "cmdline"]):
            words = each.info["cmdline"] or []
            with contextlib.suppress(psutil.Error, OSError):
                if each.info["name"] == "initdb" and any(map(self._is_fresh, words)):
                    each.kill()
                    orphans.append(each)
                elif str(self.data) in words and _is_without_data(each.pid):
                    each.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
                    orphans.append(each)
        psutil.wait_procs(orphans, timeout=_ORPHAN_SECONDS)
        for left in self.folder.glob(f"{_FRESH}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _is_fresh(self, word: str) -> bool:
        return word.startswith(str(self.folder / _FRESH))

    def _is_protected(self, postmaster: _Postmaster) -> bool:
        """Whether only this user reaches the running server; False: it does not run.

        A server that an older version started may let others in: what it asks for is changed while
        it runs, but not where its socket is.
        """
        folder, user = Path(postmaster.socket_folder), self._programs.user
        if not is_private(folder, user) and not self._is_ours(postmaster.pid):
            return False
        if folder != self.data:
            try:
                check_socket_folder(folder, user)
            except StorageError as error:
                raise StorageError(f"{error}; then: orch db stop, orch db start") from None
        if protect(self.data, user):
            os.kill(postmaster.pid, signal.SIGHUP)
        return True

    def _postmaster(self) -> _Postmaster | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return _Postmaster(int(lines[0]), int(lines[3]), lines[4].strip(), lines[5].strip())
        except (OSError, ValueError, IndexError):
            return None  # none, or half written by a server that is just starting

    def _remove_stale_pid_file(self) -> None:
        path = self.data / "postmaster.pid"
        try:
            pid = int(path.read_text().split()[0])
        except FileNotFoundError:
            return
        except (ValueError, IndexError):
            pid = -1
        if not self._is_ours(pid):
            path.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        # The number of a dead server may meanwhile be another program's.
        try:
            process = psutil.Process(pid)
            return str(self.data) in process.cmdline() and process.status() != "zombie"
        except (psutil.Error, ValueError):
            return False

    def _last_log_line(self) -> str:
        try:
            lines = (self.data / "log").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it left no log"

    def _lock(self) -> Any:
        return fasteners.InterProcessLock(self.folder / "postgres.lock")

    def _postgres(self, command: str, *arguments: str) -> None:
        self._programs.run(command, *arguments)


def _is_without_data(pid: int) -> bool:
    """Whether the folder that a process works in was removed; its path alone may be another's."""
    return os.readlink(f"/proc/{pid}/cwd").endswith(" (deleted)")


# Who may log in to the embedded server: its system user as administrator, others by password.
#
# The kernel tells the server which user of this machine is at the other end of a socket (peer).

ADMINISTRATOR = "postgres"
_MAP = "orch"


def protect(data: Path, user: SystemUser) -> bool:
    """Rewrite what lets users in without a check, as versions before 0.1 left it.

    Args:
        data: the server's data folder.
        user: whom the server runs as.

    Returns:
        Whether anything was changed; a running server must then read its files again.
    """
    users = {user.name, SystemUser.of(os.geteuid()).name}
    changed = _rewrite(data / "pg_ident.conf", lambda text: _with_map(text, users), user)
    return _rewrite(data / "pg_hba.conf", without_trust, user) or changed


def without_trust(text: str) -> str:
    """A ``pg_hba.conf`` in which each rule that trusts asks for the user or a password."""
    lines: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if line.lstrip().startswith("#") or "trust" not in words[3:6]:
            lines.append(line)
        elif words[0] == "local":
            lines += _checked(words[1], words[2].split(","))
        else:
            place = words.index("trust", 3)
            lines.append(" ".join([*words[:place], "scram-sha-256"]))
    return "\n".join(lines) + "\n" if lines else ""


def _checked(database: str, users: list[str]) -> list[str]:
    lines = []
    if {ADMINISTRATOR, "all"} & set(users):
        lines.append(f"local {database} {ADMINISTRATOR} peer map={_MAP}")
    others = [each for each in users if each != ADMINISTRATOR]
    if others:
        lines.append(f"local {database} {','.join(others)} scram-sha-256")
    return lines


def _with_map(text: str, users: set[str]) -> str:
    others = [line for line in text.splitlines() if line.split()[:1] != [_MAP]]
    return (
        "\n".join([*others, *(f'{_MAP} "{each}" {ADMINISTRATOR}' for each in sorted(users))]) + "\n"
    )


def _rewrite(path: Path, change: Callable[[str], str], user: SystemUser) -> bool:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    wanted = change(text)
    if wanted == text:
        return False
    fresh = path.with_name(f"{path.name}.orch")
    write_whole(fresh, wanted.encode(), private=True)
    user.own(fresh)  # the server reads it
    fresh.replace(path)
    return True


# The folder of a server's socket: this user's alone, checked whenever it is used.
#
# Who can enter it can reach the server; who can write there can put another server in its place.

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
        StorageError: somebody can; the message says how to fix it.
    """
    for each in (folder.parent, folder) if folder.parent == _of_user(user) else (folder,):
        problem = _socket_problem(each, user)
        if problem is not None:
            raise StorageError(
                f"{each}, a folder for the socket of the embedded PostgreSQL, {problem}, so that "
                "other users could reach the server; remove it, or set XDG_RUNTIME_DIR to a folder "
                "of yours with mode 0700, or ORCH_HOME to a shorter path"
            )


def is_private(folder: Path, user: SystemUser) -> bool:
    """Whether nobody else (but root) may enter it."""
    return _socket_problem(folder, user) is None


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


def _socket_problem(folder: Path, user: SystemUser) -> str | None:
    try:
        found = folder.lstat()
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid not in (user.uid, os.geteuid()):
        return f"belongs to user {_user_name(found.st_uid)}"
    if found.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}"
    return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
