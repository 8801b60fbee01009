"""tensorboard: the study in TensorBoard with HParams."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o

_POLL_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    app.command()(tensorboard)


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
    from contextlib import ExitStack

    from orchestrator.base.files import home
    from orchestrator.report.follow import follow
    from orchestrator.report.formatting import counted
    from orchestrator.report.hparams import HParamsLogs
    from orchestrator.serve.tensorboard import free_port
    from orchestrator.serve.tensorboard import tensorboard as serving
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study, read_trials

    database = open_database(storage)
    study = open_study(database, name)
    if serve:
        port = free_port(host, port)
    folder = logdir if logdir is not None else home() / "tensorboard" / name
    logs = HParamsLogs(folder, study.spec)
    count = logs.write(read_trials(database, study))
    print(f"{counted(count, 'trial')} in {folder}", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        if serve:
            _say_where(host, stack.enter_context(serving(folder, host, port)))
        if live:
            follow(database, name, logs.write)
        while serve:
            time.sleep(_POLL_SECONDS)


def _say_where(host: str, address: str) -> None:
    if host != "127.0.0.1":
        print(
            f"TensorBoard listens on {host}, without a password: whoever reaches this machine can "
            "read the study",
            file=sys.stderr,
        )
    print(f"TensorBoard at {address}#hparams (Ctrl-C ends it)", file=sys.stderr, flush=True)
