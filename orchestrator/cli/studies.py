"""list, show, stop, delete, enqueue and import: the studies of a storage."""

from __future__ import annotations

import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options as o
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator import Study


def list_(storage: o.StorageOption = None) -> None:
    """List the studies of the storage.

    Example: orch list
    """
    from orchestrator import list_studies

    print(list_studies(storage=storage))


def show(
    name: o.NameArgument,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial", metavar="N", min=0, help="Show this trial instead, also a failed one."
        ),
    ] = None,
    storage: o.StorageOption = None,
) -> None:
    """Show a study's spec, state and live workers, or all that is known of one trial.

    Example: orch show demo --trial 3
    """
    from orchestrator import load_study

    print(load_study(name, storage=storage, upgrade=False).show(trial))


def logs(
    name: o.NameArgument,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="The trial's number.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what comes until it and its retries end.")
    ] = False,
    storage: o.StorageOption = None,
) -> None:
    """Print what a trial printed, wherever it ran: the newest 64 KiB.

    New lines come with the worker's heartbeat. Ctrl-C ends --follow alone.

    Example: orch logs demo 3 --follow
    """
    from orchestrator import load_study

    study = load_study(name, storage=storage, upgrade=False)
    is_silent = True
    for text in study.follow_logs(trial) if follow else [study.logs(trial)]:
        print(text, end="", flush=True)
        is_silent = is_silent and not text
    if is_silent:
        print(f"trial {trial} has printed nothing", file=sys.stderr)


def stop(name: o.NameArgument, storage: o.StorageOption = None) -> None:
    """Drain a study: running trials finish, no new one starts, on any machine.

    Example: orch stop demo
    """
    from orchestrator import load_study

    live = load_study(name, storage=storage).stop()
    workers = "1 live worker" if live == 1 else f"{live} live workers"
    ends = f"{workers} will leave after the trial" if live else "nobody works"
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
    from orchestrator import load_study

    study = load_study(name, storage=storage)
    if not yes:
        raise UsageError(
            f"this removes study '{name}' with all its trials; say --yes if you mean it"
        )
    study.delete()
    print(f"study '{name}' is removed", file=sys.stderr)


def enqueue(
    name: o.NameArgument,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--params",
            metavar="PARAMS",
            help="One configuration, as 'units=64, activation=\"relu\"'; repeatable. What it "
            "leaves out is drawn.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="STUDY", help="A warm start: the best trials of it."),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="With --from: how many.")
    ] = 5,
    storage: o.StorageOption = None,
) -> None:
    """Queue configurations; workers take them before they draw fresh ones.

    Example: orch enqueue demo --params 'units=64, learning_rate=0.001'
    """
    from orchestrator import load_study

    if not params and source is None:
        raise UsageError("name a configuration with --params, or a study with --from")
    study = load_study(name, storage=storage)
    configurations = [_configuration(text) for text in params or []]
    count = study.enqueue(*configurations, source=source, top=top)
    trials = "1 trial" if count == 1 else f"{count} trials"
    print(
        f"{trials} queued; they count in the budget of {study.spec.study.trials} "
        f"(raise it with: orch resume {name} --add {count})",
        file=sys.stderr,
    )


def _configuration(text: str) -> dict[str, Any]:
    inner = text.strip()
    if inner.startswith("{"):
        inner = inner.removeprefix("{").removesuffix("}")
    try:
        values: dict[str, Any] = tomllib.loads(f"params = {{{inner}}}")["params"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"--params {text}: write NAME=VALUE, …, as 'units=64, activation=\"relu\"' ({error})"
        ) from None
    for key, value in values.items():
        if not _is_choice(value):
            raise UsageError(
                f"--params {text}: {key} must be a number, a string, a boolean, or a list or table "
                "of them"
            )
    return values


def _is_choice(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_choice, value))
    if isinstance(value, dict):
        return all(map(_is_choice, value.values()))
    return isinstance(value, bool | int | float | str)


import_app = typer.Typer(
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


@import_app.command("optuna")
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
    from orchestrator import import_optuna

    _import(
        import_optuna, url, name,
        study=study, objective=objective, data=data, epochs=epochs, storage=storage,
    )  # fmt: skip


@import_app.command()
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
    from orchestrator import import_kerastuner

    _import(
        import_kerastuner, folder, name,
        metric=metric, objective=objective, data=data, epochs=epochs, storage=storage,
    )  # fmt: skip


def _import(call: Callable[..., Study], *source: Any, **options: Any) -> None:
    """Import a study, and say what came along; an interrupted import has left nothing."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            study = call(*source, **options)
    except KeyboardInterrupt:
        print("interrupted; nothing was stored", file=sys.stderr)
        raise
    for each in caught:
        if each.category is UserWarning:
            print(f"warning: {each.message}", file=sys.stderr)
    count = len(study.trials)
    trials = "1 trial" if count == 1 else f"{count} trials"
    print(
        f"study '{study.name}' has {trials} now; see them with: orch report {study.name}",
        file=sys.stderr,
    )
    spec = study.spec
    if spec.data.name is not None:
        epochs = "1 epoch" if spec.training.epochs == 1 else f"{spec.training.epochs} epochs"
        print(
            f"it goes on with {spec.data.name} and {epochs}; where that is not how those trials "
            "were trained, delete it, and import with --data and --epochs",
            file=sys.stderr,
        )
