"""The server: the embedded PostgreSQL, the schema anywhere, and what listens on a port."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base.extras import require
from orchestrator.base.files import home
from orchestrator.base.printed import Printed
from orchestrator.errors import NoTables, StorageError
from orchestrator.storage.database import Database, describe
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.schema import open_database, prepare, storage_url
from orchestrator.storage.url import mask

__all__ = [
    "Embedded",
    "Roles",
    "Upgraded",
    "dashboard",
    "init",
    "proxy",
    "roles",
    "serve",
    "start",
    "status",
    "stop",
    "upgrade",
]

_WAIT_SECONDS = 2.0  # how often tables that do not exist yet are looked for


@dataclass(frozen=True)
class Embedded(Printed):
    """The embedded server as it runs.

    Attributes:
        url: for psql and ``storage=``.
        folder: its data.
        process: its process id; None: it has just ended.
    """

    url: str
    folder: Path
    process: int | None

    def __str__(self) -> str:
        return f"the embedded PostgreSQL runs in {self.folder} (process {self.process})"


@dataclass(frozen=True)
class Roles(Printed):
    """The least-privilege roles of a server.

    Attributes:
        names: all of them.
        changed: those with a new password.
        passfile: where the passwords are.
        storage: the server's URL, without a password.
    """

    names: tuple[str, ...]
    changed: tuple[str, ...]
    passfile: Path
    storage: str

    def __str__(self) -> str:
        head = f"{', '.join(self.names)} have their rights at {self.storage}"
        if self.changed:
            return f"{head}\nthe passwords of {', '.join(self.changed)} are in {self.passfile}"
        return f"{head}\ntheir passwords are as they were; --new-passwords changes them"


@dataclass(frozen=True)
class Upgraded(Printed):
    """A storage whose tables are those of this version.

    Attributes:
        migrations: those that were run; none: the tables were up to date, or are new.
        storage: the storage's URL, without a password.
    """

    migrations: tuple[str, ...]
    storage: str

    def __str__(self) -> str:
        return f"the schema is in place at {self.storage}"


def start() -> Embedded:
    """Start the embedded server, if it does not run; it keeps running.

    Example:
        print(orch.server.start().url)

    Raises:
        StorageError: it cannot be started.
    """
    server = EmbeddedServer(home())
    url = server.ensure_running()
    return Embedded(url, server.data, server.pid())


def stop() -> bool:
    """Stop the embedded server; workers on it lose their storage.

    Example:
        orch.server.stop()

    Returns:
        False: it was not running.

    Raises:
        StorageError: it cannot be stopped.
    """
    return EmbeddedServer(home()).stop()


def status(storage: str | None = None) -> str:
    """Say which storage is used and whether it answers; this starts none.

    Example:
        print(orch.server.status())

    Args:
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.

    Raises:
        StorageError: it does not answer.
    """
    given = storage or os.environ.get("ORCH_STORAGE")
    if given is None:
        server = EmbeddedServer(home())
        given = server.url()
        if given is None:
            raise StorageError(
                f"the embedded PostgreSQL in {server.data} is not running; "
                "start it with: orch db start"
            )
    return describe(given)


def init(storage: str | None = None) -> str:
    """Create the tables on a server, or check those that are there.

    Example:
        orch.server.init("postgresql://owner@db.lab/orch")

    Args:
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.

    Returns:
        The URL without its password.

    Raises:
        StorageError: it cannot be reached, or holds a schema that is not ours, or an older one,
            which :func:`upgrade` is for.
    """
    database = open_database(storage)
    database.close()
    return mask(database.url)


def upgrade(storage: str | None = None) -> Upgraded:
    """Upgrade the tables of an older orch, beside its workers: they end their trials and leave.

    It can be repeated, e.g. after an interruption.

    Example:
        print(orch.server.upgrade("postgresql://orch_owner@db.lab/orch").migrations)

    Args:
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.

    Raises:
        StorageError: it cannot be reached, a table stays locked, or this role may not do that.
    """
    database = Database(storage_url(storage))
    ran = prepare(database)
    database.close()
    return Upgraded(tuple(ran), mask(database.url))


def roles(
    storage: str | None = None, *, passfile: Path | None = None, renew: bool = False
) -> Roles:
    """Create the roles orch_owner, orch_worker and orch_reader with the rights that each needs.

    Example:
        print(orch.server.roles("postgresql://admin@db.lab/orch"))

    Args:
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.
        passfile: where the passwords go, in libpq's form; None: ``roles.pgpass`` in ORCH_HOME.
        renew: give all three new passwords.

    Raises:
        OrchError: the file cannot be written.
        StorageError: the storage is out of reach, or this role may not do that.
    """
    from orchestrator.storage.roles import ROLES, make_roles

    path = (passfile or home() / "roles.pgpass").expanduser()
    database = open_database(storage)
    changed = make_roles(database, path, renew)
    database.close()
    return Roles(tuple(ROLES), tuple(changed), path, mask(database.url))


def serve(
    listen: str, *, port: int = 5432, ready: Callable[[str, str], None] | None = None
) -> None:
    """Open the embedded server to a network, by TLS and with a password, until interrupted.

    Example:
        orch.server.serve("192.168.1.5", ready=lambda invitation, notice: print(invitation))

    Args:
        listen: an address of this machine; ``"0.0.0.0"``: all of them.
        port: the TCP port.
        ready: called with the line that other machines need, and with a notice for the user.

    Raises:
        UsageError: it is not an address of this machine, the port is taken, or the package
            cryptography is missing.
        StorageError: the server cannot be started.
    """
    require("cryptography", "serve", "orch db serve")
    from orchestrator.serve.tls_proxy import open_to_network, run_gate

    opened = open_to_network(EmbeddedServer(home()), listen, port)
    notice = (
        f"the embedded PostgreSQL is open to the network at {opened.host}, port {port}, until "
        f"Ctrl-C; only by TLS, with a password, as a role of orch\nits certificate, which the "
        f"line below carries: SHA-256 {opened.certificate.fingerprint()}\n"
        "paste on every other machine:"
    )
    if ready is not None:
        ready(opened.invitation(), notice)
    run_gate(opened)


def proxy(storage: str | None = None, *, host: str = "127.0.0.1", port: int = 13000) -> None:
    """Serve Optuna's gRPC storage proxy until interrupted, for plain Optuna workers.

    They open it with ``optuna.storages.GrpcStorageProxy(host=…, port=…)``. It has no password.

    Example:
        orch.server.proxy(port=13000)

    Raises:
        OrchError: the port is taken.
        StorageError: the storage is out of reach.
    """
    from orchestrator.serve.proxy import serve as serve_proxy

    serve_proxy(open_database(storage), host, port)


def dashboard(
    storage: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    password_file: Path | None = None,
    read_only: bool = False,
    browser: bool = False,
    metrics: str | None = None,
    wait: bool = False,
) -> None:
    """Serve optuna-dashboard until interrupted, on 127.0.0.1 unless ``host`` says otherwise.

    Example:
        orch.server.dashboard(port=8080, browser=True)

    Args:
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.
        host: the address to listen on; any other one needs a password.
        port: the TCP port; 0: any free one.
        password_file: holds the password; None: ``ORCH_DASHBOARD_PASSWORD``, else one is generated
            where ``host`` needs one.
        read_only: refuse whatever could change something.
        browser: open the browser.
        metrics: serve metrics for Prometheus at this ``[HOST:]PORT``; None: nowhere.
        wait: wait for the tables if there are none yet; the first study brings them.

    Raises:
        OrchError: the port is taken, or the file cannot be read.
        StorageError: the storage is out of reach.
    """
    from orchestrator.serve.dashboard import DashboardOptions
    from orchestrator.serve.dashboard import serve as serve_dashboard

    options = DashboardOptions(host, port, browser, password_file, read_only, metrics)
    serve_dashboard(_opened_to_read(storage, wait), options)


def _opened_to_read(storage: str | None, wait: bool) -> Database:
    from orchestrator.report.progress import say

    is_told = False
    while True:
        try:
            return open_database(storage, create=False, upgrade=False)
        except NoTables as error:
            if not wait:
                raise
            if not is_told:
                say(f"{error}; waiting for them")
                is_told = True
            time.sleep(_WAIT_SECONDS)
