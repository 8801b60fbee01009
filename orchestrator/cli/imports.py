"""import: studies of other tools, taken over with their trials."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.errors import UsageError, printable
from orchestrator.report.formatting import counted

if TYPE_CHECKING:
    from orchestrator.importers.imported import ImportedStudy

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Take over studies of other tools."
)

ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="OBJECTIVE",
        help="Objective for new trials; without it the study is read-only.",
    ),
]


DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|PATH.npz",
        help="On which it goes on; default: the objective's own.",
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option("--epochs", metavar="N", min=1, help="With how many it goes on."),
]


@app.command("optuna")
def optuna_(
    url: Annotated[str, typer.Argument(metavar="URL", help="e.g. sqlite:///old.db, or a file.")],
    name: o.NameArgument,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME", help="Which; default: the only one there."),
    ] = None,
    objective: ObjectiveOption = None,
    data: DataOption = None,
    epochs: EpochsOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Copy a study of an existing Optuna storage.

    Example: orch import optuna sqlite:///old.db old --study my-study
    """
    from orchestrator.importers.optuna import read_optuna

    _store(lambda: read_optuna(url, study), name, storage, objective, data, epochs)


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
    data: DataOption = None,
    epochs: EpochsOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Copy the trials of a finished KerasTuner project.

    KerasTuner writes down neither the data nor the epochs, so say both where the study goes on.

    Example: orch import kerastuner my_dir/helloworld hello
    """
    from orchestrator.importers.kerastuner import read_project

    _store(lambda: read_project(folder, metric), name, storage, objective, data, epochs)


def _show(text: str) -> None:
    """Put this in the place of the last line of progress, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


@contextmanager
def _whole_or_nothing() -> Iterator[None]:
    """Say of an interrupted import that it left nothing."""
    try:
        yield
    except KeyboardInterrupt:
        _show("")
        print("interrupted; nothing was stored", file=sys.stderr)
        raise
    finally:
        _show("")


def _store(
    read: Callable[[], ImportedStudy],
    name: str,
    storage: str | None,
    objective: str | None,
    data: str | None,
    epochs: int | None,
) -> None:
    from orchestrator.importers.imported import GoingOn, store
    from orchestrator.storage.schema import open_database

    if objective is None and (data is not None or epochs is not None):
        raise UsageError("--data and --epochs are for the --objective that goes on; name it")
    with _whole_or_nothing():
        _show("reading the trials")
        imported = read()
        trials = counted(len(imported.trials), "trial")
        stored = store(
            open_database(storage),
            name,
            imported,
            GoingOn(objective, data, epochs),
            lambda written: _show(f"{written:,} of {trials} written"),
        )
    for warning in imported.warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr)
    print(f"study '{name}' has {trials} now; see them with: orch report {name}", file=sys.stderr)
    if stored.data is not None:
        print(
            f"it goes on with {stored.spec.data.name} and "
            f"{counted(stored.spec.training.epochs, 'epoch')}; where that is not how those trials "
            "were trained, delete it, and import with --data and --epochs",
            file=sys.stderr,
        )
