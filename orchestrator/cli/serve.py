"""dashboard, tensorboard and doctor: what is looked at in a browser, and whether all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o


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
    """Check storage, clocks, data, TensorFlow, GPUs and disk; each line ok or the mend.

    A note is about what only some studies need, as MNIST.

    Example: orch doctor mlp --storage postgresql://orch@db.lab/orch
    """
    from orchestrator.doctor import examine

    findings = examine(study, storage=storage)
    for finding in findings:
        print(finding)
    return 0 if findings.ok else 1
