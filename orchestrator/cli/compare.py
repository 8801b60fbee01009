"""compare: studies side by side, and whether a difference is more than noise."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.cli import streams


class Format(StrEnum):
    text = "text"
    json = "json"
    html = "html"


def register(app: typer.Typer) -> None:
    app.command()(compare)


def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Two studies or more.")],
    format: Annotated[Format, typer.Option("--format")] = Format.text,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Default: print; in a terminal, HTML goes to compare.html.",
        ),
    ] = None,
    storage: o.StorageOption = None,
) -> None:
    """Set studies side by side, and test whether a difference is more than noise.

    Studies whose specification differs in the seed alone are one group. With four seeds each, or
    more, the groups' best values are tested.

    Example: orch compare tpe-0 tpe-1 random-0 random-1
    """
    from orchestrator.report.compare import compare as compare_summaries
    from orchestrator.report.reader import summarise
    from orchestrator.report.render import render_comparison, write_file
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study

    database = open_database(storage)
    studies = [open_study(database, name) for name in dict.fromkeys(names)]
    comparison = compare_summaries([summarise(database, study) for study in studies])
    content = render_comparison(comparison, format.value, streams.columns())
    if out is None and format is Format.html and sys.stdout.isatty():
        out = Path("compare.html")
    if out is None:
        streams.print_document(content, format.value)
    else:
        write_file(content.encode(), out)
        print(f"{out} is written", file=sys.stderr)
