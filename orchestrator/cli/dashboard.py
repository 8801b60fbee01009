"""dashboard: optuna-dashboard on this storage."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as o


def register(app: typer.Typer) -> None:
    app.command()(dashboard)


def dashboard(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8080,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
    storage: o.StorageOption = None,
) -> None:
    """Serve optuna-dashboard on 127.0.0.1 until Ctrl-C.

    Example: orch dashboard --port 8080 --open
    """
    from orchestrator.report.dashboard import serve
    from orchestrator.storage.open import open_database

    serve(open_database(storage), port, open_browser)
