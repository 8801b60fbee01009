"""optuna-dashboard under waitress, a production WSGI server."""

from __future__ import annotations

import logging
import sys
import webbrowser
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError
from orchestrator.report.access import (
    given_password,
    is_local,
    make_password,
    reading_only,
    with_password,
)
from orchestrator.report.metrics import metrics_served
from orchestrator.report.notes import keep_notes
from orchestrator.report.readable import ReadableStorage, feasible_front
from orchestrator.storage.artifacts import PostgresArtifactStore
from orchestrator.storage.database import Database

_unread = logging.Logger("orch.unread", logging.CRITICAL + 1)


@dataclass(frozen=True)
class DashboardOptions:
    """How the dashboard is served.

    Attributes:
        host: the address to listen on; off this machine only with a password.
        port: the TCP port; 0 takes any free one.
        open_browser: open the page in the user's browser.
        password_file: where the password is, if not in the environment.
        read_only: refuse whatever could change something.
        metrics: ``[HOST:]PORT`` of the metrics; None: none.
    """

    host: str
    port: int
    open_browser: bool
    password_file: Path | None
    read_only: bool
    metrics: str | None


def serve(database: Database, options: DashboardOptions) -> None:
    """Serve the dashboard until interrupted.

    Raises:
        OrchError: a port is taken, or the password cannot be read.
    """
    import waitress

    password = given_password(options.password_file)
    made = None
    if password is None and not is_local(options.host):
        password = made = make_password()
    application = _application(database.url)
    if options.read_only:
        application = reading_only(application)
    if password is not None:
        application = with_password(application, password)
    try:
        server = waitress.create_server(
            application, host=options.host, port=options.port, threads=8
        )
    except OSError as error:
        raise OrchError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}; "
            "name another with --port"
        ) from None
    # A page sends more requests at once than there are threads; do not log that some wait.
    server.task_dispatcher.queue_logger = _unread
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{server.effective_port}/"
    with ExitStack() as stack:
        metrics = stack.enter_context(metrics_served(database.url, options.metrics))
        _say_where(url, made, metrics, options)
        if not options.read_only:
            stack.enter_context(keep_notes(database.url))
        if options.open_browser and not webbrowser.open(url):
            print("no browser was found here; open that address yourself", file=sys.stderr)
        server.run()  # returns at Ctrl-C


def _application(url: str) -> Any:
    import optuna_dashboard
    from optuna_dashboard import _app

    # Its own takes trials of older versions of Optuna, which had no constraints.
    _app.get_pareto_front_trials = feasible_front
    return optuna_dashboard.wsgi(
        ReadableStorage(url),
        # The kept models and pictures, in the artifact view of their trials.
        artifact_store=PostgresArtifactStore(Database(url), limit_bytes=0),
    )


def _say_where(url: str, made: str | None, metrics: str | None, options: DashboardOptions) -> None:
    mode = ", read-only" if options.read_only else ""
    lines = [f"optuna-dashboard at {url}{mode} (Ctrl-C ends it)"]
    if made is not None:
        lines.append(f"its password, for any user name: {made}")
    if not is_local(options.host):
        lines.append(
            f"it listens on {options.host} without TLS: whoever listens on the way can read the "
            "password; put a TLS proxy in front, or use an SSH tunnel"
        )
    if metrics is not None:
        lines.append(f"metrics at {metrics}")
    print("\n".join(lines), file=sys.stderr, flush=True)
