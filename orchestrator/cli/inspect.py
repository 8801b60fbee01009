"""report, best and space: what a study found and what it searches."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options as o

if TYPE_CHECKING:
    from orchestrator.resolve.facts import ObjectiveFacts
    from orchestrator.spec import StudySpec


class Format(StrEnum):
    text = "text"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    html = "html"


def register(app: typer.Typer) -> None:
    app.command()(report)
    app.command()(best)
    app.command()(space)


def _print_schema(wanted: bool) -> None:
    if wanted:
        from orchestrator.report.render import schema

        print(schema(), end="")
        raise typer.Exit


def report(
    name: o.NameArgument,
    format: Annotated[Format, typer.Option("--format")] = Format.text,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="Default: print.")
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            callback=_print_schema,
            is_eager=True,
            help="Print the JSON Schema of --format json, and end.",
        ),
    ] = False,
    storage: o.StorageOption = None,
) -> None:
    """Report what a study found.

    Markdown with --out has its figures as SVG files beside it.

    Example: orch report demo --format html --out demo.html
    """
    from orchestrator.report.render import write
    from orchestrator.report.summary import summarise
    from orchestrator.storage.open import open_database
    from orchestrator.study import open_study

    database = open_database(storage)
    thorough = format not in (Format.text, Format.csv)
    summary = summarise(database, open_study(database, name), thorough)
    figures = write(summary, format.value, out)
    if out is not None:
        beside = f", with {len(figures)} figures beside it" if figures else ""
        print(f"{out} is written{beside}", file=sys.stderr)


def best(
    name: o.NameArgument,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many.")] = 1,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            metavar="DIR",
            help="Write their models here, as far as worker.keep_models kept them.",
        ),
    ] = None,
    storage: o.StorageOption = None,
) -> None:
    """Print the best trials and their parameters, and write their models.

    Example: orch best demo --top 3
    """
    from orchestrator.report.listing import best_page
    from orchestrator.report.summary import summarise
    from orchestrator.storage.open import open_database
    from orchestrator.study import open_study

    database = open_database(storage)
    study = open_study(database, name)
    print(best_page(summarise(database, study), top))
    if models is not None:
        from orchestrator.winner.models import write_models

        for path in write_models(database, study, models, top):
            print(f"{path} is written", file=sys.stderr)


def space(
    name: Annotated[str, typer.Argument(metavar="OBJECTIVE|FILE.toml|NAME")],
    params: o.ParamOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Print a search space, its size and the cost that the budget implies.

    Example: orch space mnist
    """
    from orchestrator.report.listing import space_of_study, space_page
    from orchestrator.storage.open import open_database
    from orchestrator.study import open_study
    from orchestrator.training.registry import known

    file = Path(name) if name.endswith(".toml") else None
    # A registered objective wins over a study that carries its name.
    if file is not None or name in known() or ":" in name:
        objective_name = None if file else name
        spec = o.write_spec(
            file=file, objective=objective_name, name=None, settings={}, sets=None, params=params
        )
    else:
        database = open_database(storage)
        study = open_study(database, name)
        if study.facts.space is not None:
            print(space_page(study.spec, space_of_study(database, study)))
            return
        spec = study.spec  # of an older orch
    print(space_page(spec, _ask_objective(spec)))


def _ask_objective(spec: StudySpec) -> ObjectiveFacts:
    from orchestrator.resolve.objective import facts_of, make_objective

    objective = make_objective(spec)
    return facts_of(spec, objective, objective.declared())
