"""Options that several verbs share, the command behind ``--``, and the spec that they write."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator import StudySpec

_COMMAND_KEY = "orchestrator.command"


class Direction(StrEnum):
    minimize = "minimize"
    maximize = "maximize"


StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="PostgreSQL as postgresql://USER@HOST/DATABASE; else ORCH_STORAGE, else the "
        "embedded server.",
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The study's name.")]
TrialsOption = Annotated[
    int | None,
    typer.Option("--trials", metavar="N", min=1, help="The budget: trials COMPLETE or PRUNED."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        max=256,
        help="Local workers; default: one a core, 4 at most.",
    ),
]
TimeoutOption = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="As 90s, 30m or 2h.")
]
GpusOption = Annotated[
    str | None, typer.Option("--gpus", metavar="LIST", help="GPUs to share out: all, none or 0,1.")
]
MetricsPortOption = Annotated[
    str | None,
    typer.Option(
        "--metrics-port", metavar="[HOST:]PORT", help="Serve metrics for Prometheus, as 9464."
    ),
]
MismatchOption = Annotated[
    bool,
    typer.Option(
        "--allow-mismatch",
        help="Take part though the objective's source or a version differs from the study's.",
    ),
]
AllowCommandOption = Annotated[
    bool,
    typer.Option(
        "--allow-command",
        help="Run the study's command though you have not given it on this machine.",
    ),
]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        "--sampler", metavar="NAME", help="auto (default), mixed-gp, tpe, random, cmaes, gp, qmc, …"
    ),
]
PrunerOption = Annotated[
    str | None,
    typer.Option("--pruner", metavar="NAME", help="hyperband (default), asha, median, none, …"),
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", metavar="N", min=1, help="Epochs of a full trial.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of the whole study.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DATA", help="mnist, digits, PATH.npz or package.module:function."
    ),
]
DirectionOption = Annotated[
    list[Direction] | None,
    typer.Option(
        "--direction",
        metavar="minimize|maximize",
        help="Default: follows from the metric; one for each metric.",
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", metavar="NAME", help="As val_accuracy; repeated: a study of several metrics."
    ),
]
FoldsOption = Annotated[
    int | None,
    typer.Option("--folds", metavar="N", min=0, help="k-fold cross-validation in every trial."),
]
RepeatsOption = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        metavar="N",
        min=1,
        help="Trainings of a trial, with different seeds, averaged.",
    ),
]
WarmStartOption = Annotated[
    list[str] | None,
    typer.Option(
        "--warm-start",
        metavar="NAME",
        help="An older study whose trials inform the sampler; repeatable.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any key of the spec; repeatable."),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=DOMAIN",
        help="One parameter's domain, as 'units={choice=[16,32]}', perhaps with prior=32; "
        "repeatable.",
    ),
]


# Where the options that create a study stand in its spec.
_PLACES = {
    "trials": ("study", "trials"),
    "timeout": ("study", "timeout"),
    "metric": ("study", "metric"),
    "direction": ("study", "direction"),
    "warm_start": ("study", "warm_start"),
    "sampler": ("sampler", "name"),
    "pruner": ("pruner", "name"),
    "epochs": ("training", "epochs"),
    "folds": ("training", "folds"),
    "repeats": ("training", "repeats"),
    "seed": ("training", "seed"),
    "data": ("data", "name"),
}


def write_spec(
    *,
    file: Path | None,
    objective: str | list[str] | None,
    name: str | None,
    options: Mapping[str, Any],
    sets: list[str] | None,
    params: list[str] | None,
) -> StudySpec:
    """The spec that a file and options write together; options win over the file.

    Args:
        file: a spec file.
        objective: what the study runs; a list is a command.
        name: the study's name; None: the file's or the objective's.
        options: by name, whatever else a verb was given.
        sets: of ``--set``.
        params: of ``--param``.

    Raises:
        UsageError: the file or an option is wrong.
    """
    from orchestrator import StudySpec

    document: dict[str, Any] = StudySpec.read(file) if file else {}
    for option, (section, key) in _PLACES.items():
        value = options.get(option)
        if option == "direction" and value is not None:
            value = [each.value for each in value]
        if value is not None:
            _put(document, section, key, value)
    if objective is not None:
        _put(document, "study", "objective", objective)
    for text in sets or []:
        dotted, value = _assignment(text, "--set", "SECTION.KEY=VALUE")
        section, dot, key = dotted.partition(".")
        if not dot or not key:
            raise UsageError(f"--set {text}: write SECTION.KEY=VALUE, as worker.grace_seconds=4")
        _put(document, section, key, value)
    for text in params or []:
        parameter, value = _assignment(text, "--param", "NAME=DOMAIN")
        _put(document, "space", parameter, value)
    if name is not None:
        _put(document, "study", "name", name)
    study = document.get("study")
    if isinstance(study, dict) and "name" not in study and "objective" in study:
        study["name"] = StudySpec.default_name(study["objective"])
    return StudySpec.parse(document)


def _put(document: dict[str, Any], section: str, key: str, value: Any) -> None:
    table = document.setdefault(section, {})
    if not isinstance(table, dict):
        raise UsageError(f"[{section}] must be a table")
    table[key] = value


def _assignment(text: str, option: str, form: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"{option} {text}: write {form}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if re.fullmatch(r"[\w./:-]+", value.strip()):
            return key.strip(), value.strip()  # a bare word is the string that it looks like
        raise UsageError(
            f"{option} {text}: '{value}' is no TOML value, as 3, \"relu\" or {{choice=[16,32]}}"
        ) from None


class TakesCommand(TyperCommand):
    """A verb that leaves all words behind the first ``--`` to :func:`command_of`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta[_COMMAND_KEY] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def command_of(context: typer.Context) -> list[str] | None:
    """The command and its arguments; None: there is no ``--``."""
    found: list[str] | None = context.meta.get(_COMMAND_KEY)
    return found
