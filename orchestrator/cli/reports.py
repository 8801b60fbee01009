"""report, best, space, compare and watch: what studies found and what they search."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.cli import terminal


class Format(StrEnum):
    text = "text"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    html = "html"
    parquet = "parquet"


class ComparisonFormat(StrEnum):
    text = "text"
    json = "json"
    html = "html"


def _print_schema(wanted: bool) -> None:
    if wanted:
        from orchestrator.study import Summary

        print(Summary.json_schema(), end="")
        raise typer.Exit


def report(
    name: o.NameArgument,
    format: Annotated[Format, typer.Option("--format")] = Format.text,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Default: print; HTML in a terminal and parquet go to NAME.html, NAME.parquet.",
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

    Markdown with --out has its figures as SVG files beside it, CSV a file of what the trials log;
    parquet is one file.

    Example: orch report demo --format html --out demo.html
    """
    from orchestrator import load_study

    study = load_study(name, storage=storage, upgrade=False)
    # A page is for a browser, not for a terminal; parquet is for neither.
    if out is None and (
        format is Format.parquet or (format is Format.html and sys.stdout.isatty())
    ):
        out = Path(f"{name}.{format.value}")
    summary = study.summary(format=format.value)
    if out is None:
        terminal.print_document(summary.render(format.value), format.value)
        return
    files = summary.write(out, format.value)
    beside = f", with {len(files)} figures beside it" if format is Format.markdown and files else ""
    if format is Format.csv and files:
        beside = f", with {files[0].name} beside it"
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
    from orchestrator import load_study

    study = load_study(name, storage=storage, upgrade=False)
    print(study.best_trials(top))
    if models is not None:
        for path in study.write_models(models, top):
            is_whole = path.suffix != ".h5"
            alone = "" if is_whole else ": the weights alone, as Keras cannot save this model whole"
            print(f"{path} is written{alone}", file=sys.stderr)


def space(
    name: Annotated[str, typer.Argument(metavar="OBJECTIVE|FILE.toml|NAME")],
    params: o.ParamOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Print a search space, its size and the cost that the budget implies.

    Example: orch space mnist
    """
    from orchestrator import search_space

    file = Path(name) if name.endswith(".toml") else None
    if file is None and not params:
        print(search_space(name, storage=storage))
        return
    spec = o.write_spec(
        file=file,
        objective=None if file else name,
        name=None,
        options={},
        sets=None,
        params=params,
    )
    print(search_space(spec, storage=storage))


def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Two studies or more.")],
    format: Annotated[ComparisonFormat, typer.Option("--format")] = ComparisonFormat.text,
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
    from orchestrator import compare as compare_studies

    comparison = compare_studies(*names, storage=storage)
    if out is None and format is ComparisonFormat.html and sys.stdout.isatty():
        out = Path("compare.html")
    content = comparison.write(out, format.value)
    if out is None:
        terminal.print_document(content, format.value)
    else:
        print(f"{out} is written", file=sys.stderr)


def watch(name: o.NameArgument, storage: o.StorageOption = None) -> None:
    """Watch a study that runs elsewhere until it is done, then report; Ctrl-C ends the view alone.

    Example: orch watch demo --storage postgresql://orch@db.lab/orch
    """
    from orchestrator import load_study

    study = load_study(name, storage=storage, upgrade=False).watch()
    print(study.report(), end="")
