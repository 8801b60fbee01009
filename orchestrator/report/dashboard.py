"""optuna-dashboard under waitress, a production WSGI server."""

from __future__ import annotations

import logging
import sys
import webbrowser
from typing import Any

from orchestrator.errors import OrchError
from orchestrator.storage.artifacts import PostgresArtifactStore
from orchestrator.storage.database import Database
from orchestrator.storage.optuna_storage import open_optuna_storage

HOST = "127.0.0.1"


def serve(database: Database, port: int, open_browser: bool) -> None:
    """Serve the dashboard on this machine alone until interrupted.

    Args:
        database: the storage to show.
        port: the TCP port; 0 takes any free one.
        open_browser: open the page in the user's browser.

    Raises:
        OrchError: the port is taken.
    """
    import optuna_dashboard
    import waitress

    application: Any = optuna_dashboard.wsgi(
        open_optuna_storage(database.url),
        # The kept models, in the artifact view of their trials.
        artifact_store=PostgresArtifactStore(Database(database.url), limit_bytes=0),
    )
    logging.getLogger("waitress").setLevel(logging.ERROR)
    try:
        server = waitress.create_server(application, host=HOST, port=port, threads=8)
    except OSError as error:
        raise OrchError(
            f"cannot listen on {HOST}:{port}: {error.strerror}; name another with --port"
        ) from None
    url = f"http://{HOST}:{server.effective_port}/"
    print(f"optuna-dashboard at {url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
    if open_browser:
        webbrowser.open(url)
    server.run()  # returns at Ctrl-C
