"""db: the embedded server, and the schema on any server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.errors import StorageError

app = typer.Typer(no_args_is_help=True, help="The embedded PostgreSQL, and the schema anywhere.")


@app.command()
def start() -> None:
    """Start the embedded server; it keeps running.

    Example: orch db start
    """
    from orchestrator.base.files import home
    from orchestrator.storage.embedded import EmbeddedServer

    server = EmbeddedServer(home())
    server.ensure_running()
    print(
        f"the embedded PostgreSQL runs in {server.data} (process {server.pid()})", file=sys.stderr
    )


@app.command()
def stop() -> None:
    """Stop the embedded server; workers on it lose their storage.

    Example: orch db stop
    """
    from orchestrator.base.files import home
    from orchestrator.storage.embedded import EmbeddedServer

    stopped = EmbeddedServer(home()).stop()
    print("stopped" if stopped else "the embedded PostgreSQL was not running", file=sys.stderr)


@app.command()
def status(storage: o.StorageOption = None) -> None:
    """Say which storage is used and whether it answers.

    Example: orch db status
    """
    import os

    from orchestrator.base.files import home
    from orchestrator.storage.database import describe
    from orchestrator.storage.embedded import EmbeddedServer

    given = storage or os.environ.get("ORCH_STORAGE")
    if given is None:
        server = EmbeddedServer(home())
        given = server.url()
        if given is None:
            raise StorageError(
                f"the embedded PostgreSQL in {server.data} is not running; "
                "start it with: orch db start"
            )
    print(describe(given))


@app.command()
def url() -> None:
    """Print the embedded server's URL, for psql and --storage.

    Example: psql "$(orch db url)"
    """
    from orchestrator.base.files import home
    from orchestrator.storage.embedded import EmbeddedServer

    print(EmbeddedServer(home()).ensure_running())


@app.command()
def init(storage: o.StorageOption = None) -> None:
    """Make the tables on a server, or check those that are there.

    Example: orch db init --storage postgresql://owner@db.lab/orch
    """
    upgrade(storage)


@app.command()
def upgrade(storage: o.StorageOption = None) -> None:
    """Bring the tables of an older orch to this version; its workers end their trials and leave.

    It can run beside them, as the tables' owner. On the embedded server, the first command that
    writes does the same.

    Example: orch db upgrade --storage postgresql://orch_owner@db.lab/orch
    """
    from orchestrator.storage.database import Database
    from orchestrator.storage.schema import prepare, storage_url
    from orchestrator.storage.url import mask

    database = Database(storage_url(storage))
    for name in prepare(database):
        print(name)
    print(f"the schema is in place at {mask(database.url)}", file=sys.stderr)


@app.command()
def proxy(
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=1, max=65535)] = 13000,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    storage: o.StorageOption = None,
) -> None:
    """Serve Optuna's gRPC storage proxy until Ctrl-C, for plain Optuna workers.

    They open it with optuna.storages.GrpcStorageProxy(host=…, port=…).

    Example: orch db proxy --port 13000
    """
    from orchestrator.cli.quiet import quieten_choices
    from orchestrator.serve.proxy import serve
    from orchestrator.storage.schema import open_database

    quieten_choices()
    serve(open_database(storage), host, port)


@app.command()
def roles(
    passfile: Annotated[
        Path | None,
        typer.Option(
            "--passfile",
            metavar="PATH",
            help="Where the passwords go, in libpq's form; default: roles.pgpass in ORCH_HOME.",
        ),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--new-passwords", help="Give all three roles new passwords.")
    ] = False,
    storage: o.StorageOption = None,
) -> None:
    """Make the roles orch_owner, orch_worker and orch_reader, each with the rights that it needs.

    Example: orch db roles --storage postgresql://admin@db.lab/orch --passfile ~/.pgpass
    """
    from orchestrator.base.files import home
    from orchestrator.storage.roles import ROLES, make_roles
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.url import mask

    path = (passfile or home() / "roles.pgpass").expanduser()
    database = open_database(storage)
    changed = make_roles(database, path, renew)
    print(f"{', '.join(ROLES)} have their rights at {mask(database.url)}", file=sys.stderr)
    if changed:
        print(f"the passwords of {', '.join(changed)} are in {path}", file=sys.stderr)
    else:
        print("their passwords are as they were; --new-passwords changes them", file=sys.stderr)


@app.command()
def serve(
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="ADDRESS", help="An address of this machine; 0.0.0.0: all of them."
        ),
    ],
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=1, max=65535)] = 5432,
) -> None:
    """Open the embedded server to a lab network, by TLS and with a password, until Ctrl-C.

    The line on standard output is for the other machines: paste it there, then: orch doctor

    Example: orch db serve --listen 192.168.1.5
    """
    from orchestrator.base.files import home
    from orchestrator.serve.tls_proxy import open_to_network, run_gate
    from orchestrator.storage.embedded import EmbeddedServer

    opened = open_to_network(EmbeddedServer(home()), listen, port)
    print(
        f"the embedded PostgreSQL is open to the network at {opened.host}, port {port}, until "
        f"Ctrl-C; only by TLS, with a password, as a role of orch\nits certificate, which the "
        f"line below carries: SHA-256 {opened.certificate.fingerprint()}\n"
        "paste on every other machine:",
        file=sys.stderr,
    )
    print(opened.invitation(), flush=True)
    run_gate(opened)
