"""db, dashboard, tensorboard and doctor: the server, what listens on a port, and is all well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o

app = typer.Typer(no_args_is_help=True, help="The embedded PostgreSQL, and the schema anywhere.")


@app.command()
def start() -> None:
    """Start the embedded server; it keeps running.

    Example: orch db start
    """
    from orchestrator import server

    print(server.start(), file=sys.stderr)


@app.command()
def stop() -> None:
    """Stop the embedded server; workers on it lose their storage.

    Example: orch db stop
    """
    from orchestrator import server

    stopped = server.stop()
    print("stopped" if stopped else "the embedded PostgreSQL was not running", file=sys.stderr)


@app.command()
def status(storage: o.StorageOption = None) -> None:
    """Say which storage is used and whether it answers.

    Example: orch db status
    """
    from orchestrator import server

    print(server.status(storage))


@app.command()
def url() -> None:
    """Print the embedded server's URL, for psql and --storage.

    Example: psql "$(orch db url)"
    """
    from orchestrator import server

    print(server.start().url)


@app.command()
def init(storage: o.StorageOption = None) -> None:
    """Make the tables on a server, or check those that are there.

    Example: orch db init --storage postgresql://owner@db.lab/orch
    """
    from orchestrator import server

    print(f"the schema is in place at {server.init(storage)}", file=sys.stderr)


@app.command()
def upgrade(storage: o.StorageOption = None) -> None:
    """Upgrade the tables of an older orch; its workers end their trials and leave.

    It can run beside them. On the embedded server, the first command that writes does the same.

    Example: orch db upgrade --storage postgresql://orch_owner@db.lab/orch
    """
    from orchestrator import server

    upgraded = server.upgrade(storage)
    for name in upgraded.migrations:
        print(name)
    print(upgraded, file=sys.stderr)


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
    from orchestrator import server
    from orchestrator.cli.terminal import quieten_choices

    quieten_choices()
    server.proxy(storage, host=host, port=port)


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
    from orchestrator import server

    print(server.roles(storage, passfile=passfile, renew=renew), file=sys.stderr)


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
    from orchestrator import server

    def say(invitation: str, notice: str) -> None:
        print(notice, file=sys.stderr)
        print(invitation, flush=True)

    server.serve(listen, port=port, ready=say)


def dashboard(
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="0: any free one.")
    ] = 8080,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="The address to listen on; with a password."
        ),
    ] = "127.0.0.1",
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="PATH",
            help="Else ORCH_DASHBOARD_PASSWORD; else, with --host, one is made and printed.",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Refuse whatever could change something.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the tables; the first study brings them.")
    ] = False,
    metrics: o.MetricsPortOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Serve optuna-dashboard until Ctrl-C, on 127.0.0.1 unless --host says otherwise.

    Example: orch dashboard --port 8080 --open
    """
    from orchestrator import server
    from orchestrator.cli.terminal import quieten_choices

    quieten_choices()
    server.dashboard(
        storage,
        host=host,
        port=port,
        password_file=password_file,
        read_only=read_only,
        browser=open_browser,
        metrics=metrics,
        wait=wait,
    )


def tensorboard(
    name: o.NameArgument,
    logdir: Annotated[
        Path | None,
        typer.Option("--logdir", metavar="DIR", help="Default: a folder in ORCH_HOME."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Or only write the logs.")
    ] = True,
    live: Annotated[
        bool, typer.Option("--live", help="Follow the study until it is done, or Ctrl-C.")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="0: any free one.")
    ] = 6006,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    storage: o.StorageOption = None,
) -> None:
    """Write a study's TensorBoard logs, every trial a run with its hparams, and serve them.

    Example: orch tensorboard demo --live
    """
    from orchestrator import load_study

    study = load_study(name, storage=storage, upgrade=False)
    study.tensorboard(logdir=logdir, serve=serve, live=live, host=host, port=port)


def doctor(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Does this machine fit this study?")
    ] = None,
    storage: o.StorageOption = None,
) -> int:
    """Check storage, clocks, data, TensorFlow, GPUs and disk; each line ok, or how to fix it.

    A note is about what only some studies need, as MNIST.

    Example: orch doctor mlp --storage postgresql://orch@db.lab/orch
    """
    from orchestrator.doctor import examine

    findings = examine(study, storage=storage)
    for finding in findings:
        print(finding)
    return 0 if findings.ok else 1
