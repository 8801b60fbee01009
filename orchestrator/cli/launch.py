"""launch: workers through Slurm, Kubernetes or Ray."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options as o

if TYPE_CHECKING:
    from orchestrator.launchers.engine import Engine

app = typer.Typer(
    no_args_is_help=True, help="Start workers through an engine that is there; then see to them."
)


class EngineName(StrEnum):
    slurm = "slurm"
    kubernetes = "kubernetes"
    ray = "ray"


Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=1, max=10_000, help="How many.")
]
Processes = Annotated[
    int, typer.Option("--processes", metavar="N", min=1, help="Worker processes of each.")
]
Cpus = Annotated[
    int | None,
    typer.Option("--cpus", metavar="N", min=1, help="Cores of each; default: one a process."),
]
Gpus = Annotated[int, typer.Option("--gpus", metavar="N", min=0, help="GPUs of each.")]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory of each, as the engine writes it."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what the engine would be given.")]
Which = Annotated[EngineName, typer.Argument(metavar="ENGINE", help="slurm, kubernetes or ray.")]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Kubernetes: else the current context's."),
]
Address = Annotated[
    str,
    typer.Option("--address", metavar="ADDRESS", help="Ray: the cluster; auto: the running one."),
]


@app.command()
def slurm(
    name: o.NameArgument,
    workers: Workers,
    processes: Processes = 1,
    cpus: Cpus = None,
    gpus: Gpus = 0,
    memory: Memory = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="OPTION", help="Of sbatch, as --option=--partition=gpu; repeatable."
        ),
    ] = None,
    dry_run: DryRun = False,
    storage: o.StorageOption = None,
) -> None:
    """Submit an array job of K tasks, each an orch worker.

    Example: orch launch slurm mlp --workers 8 --cpus 4 --option=--partition=long
    """
    from orchestrator.base.files import home
    from orchestrator.launchers.engine import Job
    from orchestrator.launchers.slurm import Slurm

    job = Job(name, processes, cpus or processes, gpus, memory)
    engine = Slurm(home() / "launch", option or ())
    if dry_run:
        print(engine.script(job), end="")
        return
    _check(name, storage)
    _start(engine, job.study, engine.start(job, workers))


@app.command()
def kubernetes(
    name: o.NameArgument,
    workers: Workers,
    image: Annotated[
        str,
        typer.Option("--image", metavar="IMAGE", help="Built from deploy/Dockerfile, or on it."),
    ],
    processes: Processes = 1,
    cpus: Cpus = None,
    gpus: Gpus = 0,
    memory: Memory = None,
    secret: Annotated[
        str,
        typer.Option("--secret", metavar="NAME", help="A Secret with url, password and ca.crt."),
    ] = "orch-storage",
    namespace: Namespace = None,
    dry_run: DryRun = False,
) -> None:
    """Apply an indexed Job of K pods, each an orch worker.

    Example: orch launch kubernetes mlp --workers 8 --image registry.lab/orch:1 --dry-run
    """
    from orchestrator.launchers.engine import Job
    from orchestrator.launchers.kubernetes import Kubernetes

    job = Job(name, processes, cpus or processes, gpus, memory)
    engine = Kubernetes(namespace, image, secret)
    if dry_run:
        print(engine.document(job, workers), end="")
        return
    # The storage is the cluster's own; it need not be reached from here.
    _start(engine, name, engine.start(job, workers))


@app.command()
def ray(
    name: o.NameArgument,
    workers: Workers,
    processes: Processes = 1,
    cpus: Cpus = None,
    gpus: Gpus = 0,
    memory: Memory = None,
    address: Address = "auto",
    storage: o.StorageOption = None,
) -> None:
    """Start K detached actors on a running Ray cluster, each an orch worker.

    Example: orch launch ray mlp --workers 8 --cpus 2 --gpus 1
    """
    from orchestrator.launchers.engine import Job
    from orchestrator.launchers.ray import Ray

    _check(name, storage)
    engine = Ray(address)
    job = Job(name, processes, cpus or processes, gpus, memory)
    _start(engine, name, engine.start(job, workers))


@app.command()
def status(
    engine: Which, name: o.NameArgument, namespace: Namespace = None, address: Address = "auto"
) -> None:
    """List the workers of a study that an engine has.

    Example: orch launch status slurm mlp
    """
    members = _engine(engine, namespace, address).status(name)
    if not members:
        print(f"{engine} has no workers of study '{name}'", file=sys.stderr)
        return
    width = max(len(member.name) for member in members)
    states = max(len(member.state) for member in members)
    for member in members:
        print(f"{member.name:<{width}}  {member.state:<{states}}  {member.where}".rstrip())


@app.command()
def scale(
    engine: Which,
    name: o.NameArgument,
    workers: Workers,
    namespace: Namespace = None,
    address: Address = "auto",
    storage: o.StorageOption = None,
) -> None:
    """Have K workers from now on; those that are too many give their trials back.

    Example: orch launch scale slurm mlp --workers 16
    """
    _export(storage)
    _engine(engine, namespace, address).scale(name, workers)
    print(f"study '{name}' is to have {workers} workers", file=sys.stderr)


@app.command()
def cancel(
    engine: Which, name: o.NameArgument, namespace: Namespace = None, address: Address = "auto"
) -> None:
    """End all workers of a study; what they run is given back, and the study stays.

    Example: orch launch cancel slurm mlp
    """
    _engine(engine, namespace, address).cancel(name)
    print(f"the workers of study '{name}' are told to end", file=sys.stderr)


@app.command()
def logs(
    engine: Which, name: o.NameArgument, namespace: Namespace = None, address: Address = "auto"
) -> None:
    """Print the last lines that each worker wrote.

    Example: orch launch logs slurm mlp
    """
    print(_engine(engine, namespace, address).logs(name))


def _engine(name: EngineName, namespace: str | None, address: str) -> Engine:
    from orchestrator.base.files import home
    from orchestrator.launchers.kubernetes import Kubernetes
    from orchestrator.launchers.ray import Ray
    from orchestrator.launchers.slurm import Slurm

    if name is EngineName.kubernetes:
        return Kubernetes(namespace)
    return Ray(address) if name is EngineName.ray else Slurm(home() / "launch")


def _check(name: str, storage: str | None) -> None:
    """The study is there, in a storage that other machines may reach; workers will find it."""
    import os

    from orchestrator.errors import UsageError
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study

    _export(storage)
    if not os.environ.get("ORCH_STORAGE"):
        raise UsageError(
            "other machines do not reach the embedded PostgreSQL of this one; name a server with "
            "--storage or ORCH_STORAGE, or open this one with: orch db serve --listen ADDRESS"
        )
    database = open_database(storage)
    open_study(database, name)
    database.close()


def _export(storage: str | None) -> None:
    # Engines hand the environment on; a command line could be read by others.
    import os

    if storage is not None:
        os.environ["ORCH_STORAGE"] = storage


def _start(engine: Engine, study: str, what: str) -> None:
    print(f"{what}; see to it with: orch launch status {engine.name} {study}", file=sys.stderr)
