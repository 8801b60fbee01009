"""report, best and space: what a study found and what it searches."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.cli import streams

if TYPE_CHECKING:
    from orchestrator.spec.facts import ObjectiveFacts
    from orchestrator.spec.model import StudySpec


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
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Default: print; in a terminal, HTML goes to NAME.html.",
        ),
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
    from orchestrator.report.reader import summarise
    from orchestrator.report.render import render, write
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study

    database = open_database(storage)
    thorough = format not in (Format.text, Format.csv)
    summary = summarise(database, open_study(database, name), thorough)
    if out is None and format is Format.html and sys.stdout.isatty():
        out = Path(f"{name}.html")  # a page is for a browser, not for a terminal
    if out is None:
        content = render(summary, format.value, streams.columns())
        streams.print_document(content, format.value)
        return
    figures = write(summary, format.value, out)
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
    """Print the best trials and their parameters, the winner first, and write their models.

    Example: orch best demo --top 3
    """
    from orchestrator.report.listing import best_page
    from orchestrator.report.reader import summarise
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study

    database = open_database(storage)
    study = open_study(database, name)
    summary = summarise(database, study)
    print(best_page(summary, top))
    if models is not None:
        from orchestrator.winner.models import write_models

        winner = summary.winner.number if summary.winner else None
        for path in write_models(database, study, models, top, winner):
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
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study
    from orchestrator.training.registry import known

    columns = streams.table_columns()
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
            print(space_page(study.spec, space_of_study(database, study), columns))
            return
        spec = study.spec  # of an older orch
    print(space_page(spec, _ask_objective(spec), columns))


def _ask_objective(spec: StudySpec) -> ObjectiveFacts:
    from orchestrator.resolve.objective import facts_of, make_objective

    objective = make_objective(spec)
    return facts_of(spec, objective, objective.declared())
