"""enqueue: configurations that are tried before anything else."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options as o
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def register(app: typer.Typer) -> None:
    app.command()(enqueue)


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
    from orchestrator.resolve import queue
    from orchestrator.storage import studies
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import ranking, read_trials

    if not params and source is None:
        raise UsageError("name a configuration with --params, or a study with --from")
    database = open_database(storage)
    stored = studies.open_study(database, name)
    configurations = [_configuration(text) for text in params or []]
    best: list[FrozenTrial] = []
    if source is not None:
        other = studies.open_study(database, source)
        best = ranking(read_trials(database, other), other.spec)[:top]
        if not best:
            raise UsageError(f"study '{source}' has no complete, feasible trial to start from")
    queue.enqueue(database, stored, configurations, [trial.params for trial in best])
    count = len(configurations) + len(best)
    trials = "1 trial" if count == 1 else f"{count} trials"
    print(
        f"{trials} queued; they count in the budget of {stored.spec.study.trials} "
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
