"""run, create, resume and worker: the verbs that give a study work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli import options as o
from orchestrator.cli.options import command_of
from orchestrator.cli.terminal import interrupts, say_stopped
from orchestrator.errors import OrchError, StorageError, UsageError

if TYPE_CHECKING:
    from orchestrator import Study


def run(
    context: typer.Context,
    objective: Annotated[
        str | None,
        typer.Argument(
            metavar="OBJECTIVE|FILE.toml",
            help="As mnist, pkg.mod:f, kt:pkg.mod:f or study.toml; none before -- COMMAND.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", metavar="NAME", help="Default: the objective's name.")
    ] = None,
    trials: o.TrialsOption = None,
    workers: o.WorkersOption = None,
    sampler: o.SamplerOption = None,
    pruner: o.PrunerOption = None,
    epochs: o.EpochsOption = None,
    folds: o.FoldsOption = None,
    repeats: o.RepeatsOption = None,
    seed: o.SeedOption = None,
    data: o.DataOption = None,
    direction: o.DirectionOption = None,
    metric: o.MetricOption = None,
    timeout: o.TimeoutOption = None,
    warm_start: o.WarmStartOption = None,
    sets: o.SetOption = None,
    params: o.ParamOption = None,
    gpus: o.GpusOption = None,
    allow_mismatch: o.MismatchOption = False,
    storage: o.StorageOption = None,
) -> int:
    """Create or resume a study, work on it here, and report.

    Example: orch run mnist --study demo --trials 12 --workers 2 --epochs 3
    """
    given = locals()
    from orchestrator import create_study
    from orchestrator import workers as local

    command = command_of(context)
    file = Path(objective) if objective and objective.endswith(".toml") else None
    named = None if file else objective
    _check_objective(named, file, command, "orch run OBJECTIVE")
    spec = o.write_spec(
        file=file,
        objective=command or named,
        name=study,
        options=given,
        sets=sets,
        params=params,
    )
    local.check(workers=workers, gpus=gpus)
    allowed: Literal["software", False] = "software" if allow_mismatch else False
    made = create_study(spec=spec, allow_mismatch=allowed, storage=storage)
    return _work_and_report(made, workers, gpus)


def create(
    context: typer.Context,
    name: o.NameArgument,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="OBJECTIVE", help="As mnist or pkg.mod:f.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE.toml", help="The study as a file.")
    ] = None,
    trials: o.TrialsOption = None,
    sampler: o.SamplerOption = None,
    pruner: o.PrunerOption = None,
    epochs: o.EpochsOption = None,
    folds: o.FoldsOption = None,
    repeats: o.RepeatsOption = None,
    seed: o.SeedOption = None,
    data: o.DataOption = None,
    direction: o.DirectionOption = None,
    metric: o.MetricOption = None,
    timeout: o.TimeoutOption = None,
    warm_start: o.WarmStartOption = None,
    sets: o.SetOption = None,
    params: o.ParamOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Store a study, run nothing.

    Example: orch create mlp --objective mnist --trials 60 --epochs 8
    """
    given = locals()
    command = command_of(context)
    if objective is not None and spec is not None:
        raise UsageError("name the objective with --objective, or a file with --spec, one of them")
    _check_objective(objective, spec, command, "--objective")
    from orchestrator import create_study

    written = o.write_spec(
        file=spec,
        objective=command or objective,
        name=name,
        options=given,
        sets=sets,
        params=params,
    )
    create_study(spec=written, resume=False, storage=storage)
    print(f"study '{name}' is stored; start workers with: orch worker {name}", file=sys.stderr)


def resume(
    name: o.NameArgument,
    trials: o.TrialsOption = None,
    add: Annotated[
        int | None, typer.Option("--add", metavar="N", min=1, help="Trials on top.")
    ] = None,
    workers: o.WorkersOption = None,
    gpus: o.GpusOption = None,
    allow_mismatch: o.MismatchOption = False,
    allow_command: o.AllowCommandOption = False,
    storage: o.StorageOption = None,
) -> int:
    """Take up an interrupted, stopped or failed study, or raise its budget.

    Example: orch resume demo --add 20 --workers 2
    """
    if trials is not None and add is not None:
        raise UsageError("--trials N sets the budget and --add N raises it; give one of them")
    from orchestrator import load_study
    from orchestrator import workers as local

    local.check(workers=workers, gpus=gpus)
    study = load_study(name, storage=storage)
    study.resume(trials=trials, add=add, allow_mismatch=allow_mismatch, allow_command=allow_command)
    return _work_and_report(study, workers, gpus)


def worker(
    name: o.NameArgument,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, max=256, help="Workers on this machine."),
    ] = 1,
    gpus: o.GpusOption = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Take no trial after this time.")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--idle-exit",
            help="Wait for a study that is not there yet, and stay when it is done; or leave.",
        ),
    ] = False,
    allow_mismatch: o.MismatchOption = False,
    allow_command: o.AllowCommandOption = False,
    metrics: o.MetricsPortOption = None,
    storage: o.StorageOption = None,
) -> int:
    """Join a study from this machine.

    Example: orch worker demo --processes 2 --storage postgresql://orch@db.lab/orch
    """
    from orchestrator import load_study
    from orchestrator.workers import join

    try:
        with interrupts():
            join(
                name,
                storage=storage,
                processes=processes,
                gpus=gpus,
                timeout=timeout,
                wait=wait,
                allow_mismatch=allow_mismatch,
                allow_command=allow_command,
                metrics=metrics,
            )
    except KeyboardInterrupt:
        rest = "nothing is lost: what these workers ran is given back"
        return say_stopped(lambda: load_study(name, storage=storage), rest)
    return 0


def _check_objective(
    objective: str | None, file: Path | None, command: list[str] | None, how: str
) -> None:
    """Refuse a study that is told two objectives, or none.

    Raises:
        UsageError: it is.
    """
    if command is None:
        if objective is None and file is None:
            raise UsageError(f"name the objective with {how}, or a command behind --")
        return
    if not command:
        raise UsageError("nothing stands behind --; write a command, e.g. -- python train.py")
    if objective is not None:
        raise UsageError(
            f"{objective} and the command behind -- are both objectives; give one of them"
        )
    from orchestrator import StudySpec

    study = StudySpec.read(file).get("study") if file else None
    if isinstance(study, dict) and "objective" in study:
        raise UsageError(
            f"{file} names the objective, and so does the command behind --; give one of them"
        )


def _work_and_report(study: Study, workers: int | None, gpus: str | None) -> int:
    """Work under a live display, then print the report, also of a study that failed."""
    try:
        with interrupts():
            study.run(workers=workers, gpus=gpus)
    except KeyboardInterrupt:
        rest = f"nothing is lost. Continue with: orch resume {study.name}"
        return say_stopped(lambda: study, rest)
    except StorageError:
        raise
    except OrchError:
        print(study.report(), end="")
        raise
    print(study.report(), end="")
    return 0
