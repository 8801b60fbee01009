"""import: studies of other tools, taken over with their trials."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options as o

if TYPE_CHECKING:
    from orchestrator.imports.imported import ImportedStudy

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Take over studies of other tools."
)

ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="OBJECTIVE",
        help="With which the study may go on; default: read only.",
    ),
]


@app.command("optuna")
def optuna_(
    url: Annotated[str, typer.Argument(metavar="URL", help="As sqlite:///old.db, or a journal.")],
    name: o.NameArgument,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME", help="Which; default: the only one there."),
    ] = None,
    objective: ObjectiveOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Copy a study of an existing Optuna storage.

    Example: orch import optuna sqlite:///old.db old --study my-study
    """
    from orchestrator.imports.optuna import read_optuna

    _store(read_optuna(url, study), name, objective, storage)


@app.command()
def kerastuner(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The tuner's directory/project_name.")
    ],
    name: o.NameArgument,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="Default: the one that gives the scores."),
    ] = None,
    objective: ObjectiveOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Copy the trials of a finished KerasTuner project.

    Example: orch import kerastuner my_dir/helloworld hello
    """
    from orchestrator.imports.kerastuner import read_project

    _store(read_project(folder, metric), name, objective, storage)


def _store(imported: ImportedStudy, name: str, objective: str | None, storage: str | None) -> None:
    from orchestrator.imports.imported import store
    from orchestrator.storage.open import open_database

    store(open_database(storage), name, imported, objective)
    print(
        f"study '{name}' has {len(imported.trials)} trials now; see them with: orch report {name}",
        file=sys.stderr,
    )
