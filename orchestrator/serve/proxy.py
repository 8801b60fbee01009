"""Optuna's gRPC storage proxy before our storage: for places that cannot reach the database."""

from __future__ import annotations

import inspect
import socket
import sys

from orchestrator.base.extras import require
from orchestrator.errors import OrchError
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage


def serve(database: Database, host: str, port: int) -> None:
    """Serve until interrupted. There is no encryption and no password.

    Args:
        database: the storage to serve.
        host: the address to listen on.
        port: the TCP port.

    Raises:
        OrchError: the port is taken, or the address is not this machine's.
        UsageError: gRPC is not installed.
    """
    require("grpc", "proxy", "orch db proxy")
    from optuna.storages import run_grpc_proxy_server

    _check_free(host, port)
    print(f"Optuna's gRPC storage proxy at {host}:{port} (Ctrl-C ends it)", file=sys.stderr)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            "warning: everybody who reaches this port may read and write all studies",
            file=sys.stderr,
        )
    try:
        # Without the warning that Optuna wraps around what it calls experimental.
        inspect.unwrap(run_grpc_proxy_server)(PostgresStorage(database), host=host, port=port)
    except KeyboardInterrupt:
        return


def _check_free(host: str, port: int) -> None:
    # gRPC itself shares a port that another server listens on.
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise OrchError(
            f"cannot listen on {host}:{port}: {error.strerror}; name another with --port"
        ) from None
