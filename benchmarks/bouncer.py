"""A real PgBouncer in transaction mode before a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


@contextmanager
def pgbouncer(folder: Path, server_url: str, server_connections: int) -> Iterator[str]:
    """Runs while the block does.

    Args:
        folder: for its files; other users must be able to read it.
        server_url: the embedded server, by its socket.
        server_connections: so many at most.

    Yields:
        The URL that goes through it.
    """
    address = parse_qs(urlsplit(server_url).query)
    port = _free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        "[databases]\n"
        f"postgres = host={address['host'][0]} port={address['port'][0]} user=postgres\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\nmax_client_conn = 2000\n"
        f"default_pool_size = {server_connections}\n"
    )
    command = [PROGRAM, "-q", str(settings)]
    if os.geteuid() == 0:
        # It refuses to run as root; the socket is the server's own user's.
        command += ["-u", Path(address["host"][0]).owner()]
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        _wait_for(url, process, folder / "pgbouncer.log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg2.connect(url).close()
            return
        except psycopg2.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
