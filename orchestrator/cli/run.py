"""run, create, resume and worker: the verbs that give a study work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command()(run)
    app.command()(create)
    app.command()(resume)
    app.command()(worker)


def run(
    objective: Annotated[
        str,
        typer.Argument(
            metavar="OBJECTIVE|FILE.toml", help="As mnist, pkg.mod:f, kt:pkg.mod:f or study.toml."
        ),
    ],
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
    sets: o.SetOption = None,
    params: o.ParamOption = None,
    gpus: o.GpusOption = None,
    allow_mismatch: o.MismatchOption = False,
    storage: o.StorageOption = None,
) -> int:
    """Create or resume a study, work on it here, and report.

    Example: orch run mnist --study demo --trials 12 --workers 2 --epochs 3
    """
    from orchestrator.cli.session import local_workers, work_and_report
    from orchestrator.resolve.resume import create_or_resume
    from orchestrator.storage.schema import open_database

    file = Path(objective) if objective.endswith(".toml") else None
    spec = o.write_spec(
        file=file,
        objective=None if file else objective,
        name=study,
        settings={
            ("study", "trials"): trials,
            ("study", "timeout"): timeout,
            ("study", "metric"): metric,
            ("study", "direction"): direction and [each.value for each in direction],
            ("sampler", "name"): sampler,
            ("pruner", "name"): pruner,
            ("training", "epochs"): epochs,
            ("training", "folds"): folds,
            ("training", "repeats"): repeats,
            ("training", "seed"): seed,
            ("data", "name"): data,
        },
        sets=sets,
        params=params,
    )
    local = local_workers(workers, gpus)
    database = open_database(storage)
    return work_and_report(database, create_or_resume(database, spec, allow_mismatch), local)


def create(
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
    sets: o.SetOption = None,
    params: o.ParamOption = None,
    storage: o.StorageOption = None,
) -> None:
    """Store a study, run nothing.

    Example: orch create mlp --objective mnist --trials 60 --epochs 8
    """
    if (objective is None) == (spec is None):
        raise UsageError("name the objective with --objective, or a file with --spec, one of them")
    from orchestrator.resolve.resolve import create as create_study
    from orchestrator.storage.schema import open_database

    written = o.write_spec(
        file=spec,
        objective=objective,
        name=name,
        settings={
            ("study", "trials"): trials,
            ("study", "timeout"): timeout,
            ("study", "metric"): metric,
            ("study", "direction"): direction and [each.value for each in direction],
            ("sampler", "name"): sampler,
            ("pruner", "name"): pruner,
            ("training", "epochs"): epochs,
            ("training", "folds"): folds,
            ("training", "repeats"): repeats,
            ("training", "seed"): seed,
            ("data", "name"): data,
        },
        sets=sets,
        params=params,
    )
    create_study(open_database(storage), written)
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
    storage: o.StorageOption = None,
) -> int:
    """Take up an interrupted, stopped or failed study, or raise its budget.

    Example: orch resume demo --add 20 --workers 2
    """
    if trials is not None and add is not None:
        raise UsageError("--trials N sets the budget and --add N raises it; give one of them")
    from orchestrator.cli.session import local_workers, work_and_report
    from orchestrator.resolve import resume as resuming
    from orchestrator.storage.schema import open_database

    local = local_workers(workers, gpus)
    database = open_database(storage)
    resumed = resuming.resume(database, name, trials, add, allow_mismatch)
    return work_and_report(database, resumed, local)


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
        bool, typer.Option("--wait/--idle-exit", help="Stay when the study is done, or leave.")
    ] = False,
    allow_mismatch: o.MismatchOption = False,
    metrics: o.MetricsPortOption = None,
    storage: o.StorageOption = None,
) -> int:
    """Join a study from this machine.

    Example: orch worker demo --processes 2 --storage postgresql://orch@db.lab/orch
    """
    from orchestrator.cli.session import local_workers, parse_timeout, work
    from orchestrator.serve.metrics import metrics_served
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study

    local, seconds = local_workers(processes, gpus), parse_timeout(timeout)
    database = open_database(storage)
    study = open_study(database, name)
    with metrics_served(database.url, metrics, name) as address:
        if address:
            print(f"metrics at {address}", file=sys.stderr, flush=True)
        return work(database, study, local, seconds, wait, allow_mismatch)
