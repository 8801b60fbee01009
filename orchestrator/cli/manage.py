"""list, show, stop and delete: the studies of a storage."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.cli import streams
from orchestrator.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command("list")(list_)
    app.command()(show)
    app.command()(stop)
    app.command()(delete)


def list_(storage: o.StorageOption = None) -> None:
    """List the studies of the storage.

    Example: orch list
    """
    from orchestrator.report.listing import studies_table
    from orchestrator.storage.schema import open_database

    print(studies_table(open_database(storage), streams.table_columns()))


def show(name: o.NameArgument, storage: o.StorageOption = None) -> None:
    """Show a study's spec, state and live workers.

    Example: orch show demo
    """
    from orchestrator.report.listing import study_page
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study

    database = open_database(storage)
    print(study_page(database, open_study(database, name)))


def stop(name: o.NameArgument, storage: o.StorageOption = None) -> None:
    """Drain a study: running trials finish, no new one starts, on any machine.

    Example: orch stop demo
    """
    from orchestrator.report.formatting import counted
    from orchestrator.storage import studies
    from orchestrator.storage.schema import open_database

    database = open_database(storage)
    live = studies.stop(database, studies.open_study(database, name))
    ends = f"{counted(live, 'live worker')} will leave after the trial" if live else "nobody works"
    print(
        f"study '{name}' is stopping: {ends}. Go on with: orch resume {name}",
        file=sys.stderr,
    )


def delete(
    name: o.NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Really remove it.")] = False,
    storage: o.StorageOption = None,
) -> None:
    """Remove a study with all its trials.

    Example: orch delete demo --yes
    """
    from orchestrator.report.confirmation import keep_confirmation
    from orchestrator.storage import studies
    from orchestrator.storage.schema import open_database

    database = open_database(storage)
    stored = studies.open_study(database, name)
    if not yes:
        raise UsageError(
            f"this removes study '{name}' with all its trials; say --yes if you mean it"
        )
    keep_confirmation(database, stored)
    studies.delete(database, stored)
    print(f"study '{name}' is removed", file=sys.stderr)
