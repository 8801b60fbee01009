"""dashboard: optuna-dashboard on this storage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o


def register(app: typer.Typer) -> None:
    app.command()(dashboard)


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
    from orchestrator.cli.quiet import quieten_choices
    from orchestrator.serve.dashboard import DashboardOptions, serve
    from orchestrator.storage.schema import open_database

    quieten_choices()
    options = DashboardOptions(host, port, open_browser, password_file, read_only, metrics)
    serve(open_database(storage), options)
