"""launch: workers through Slurm, Kubernetes or Ray."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from orchestrator.cli import options as o

if TYPE_CHECKING:
    from orchestrator.launch import Launcher

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
SharedCpus = Annotated[
    float | None,
    typer.Option(
        "--cpus", metavar="N", min=0.01, help="Cores of each, as 4 or 0.5; default: one a process."
    ),
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
    allow_command: o.AllowCommandOption = False,
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
    from orchestrator import launch

    launcher = launch.slurm(options=option or ())
    needs = _Needs(processes, cpus, gpus, memory, allow_command)
    if dry_run:
        print(launcher.plan(name, workers, **needs._asdict()), end="")
        return
    _start(launcher, name, workers, needs, storage)


@app.command()
def kubernetes(
    name: o.NameArgument,
    workers: Workers,
    image: Annotated[
        str,
        typer.Option("--image", metavar="IMAGE", help="Built from deploy/Dockerfile, or on it."),
    ],
    processes: Processes = 1,
    cpus: SharedCpus = None,
    gpus: Gpus = 0,
    memory: Memory = None,
    allow_command: o.AllowCommandOption = False,
    secret: Annotated[
        str,
        typer.Option("--secret", metavar="NAME", help="A Secret with url, password and ca.crt."),
    ] = "orch-storage",
    namespace: Namespace = None,
    dry_run: DryRun = False,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="The cluster's storage as this machine reaches it, to look for the study; or "
            "ORCH_STORAGE. The pods take theirs from the Secret.",
        ),
    ] = None,
) -> None:
    """Apply an indexed Job of K pods, each an orch worker.

    Example: orch launch kubernetes mlp --workers 8 --image registry.lab/orch:1 --dry-run
    """
    from orchestrator import launch

    launcher = launch.kubernetes(namespace=namespace, image=image, secret=secret)
    needs = _Needs(processes, cpus, gpus, memory, allow_command)
    if dry_run:
        print(launcher.plan(name, workers, **needs._asdict()), end="")
        return
    _start(launcher, name, workers, needs, storage)


@app.command()
def ray(
    name: o.NameArgument,
    workers: Workers,
    processes: Processes = 1,
    cpus: SharedCpus = None,
    gpus: Gpus = 0,
    memory: Memory = None,
    allow_command: o.AllowCommandOption = False,
    address: Address = "auto",
    storage: o.StorageOption = None,
) -> None:
    """Start K detached actors on a running Ray cluster, each an orch worker.

    Example: orch launch ray mlp --workers 8 --cpus 2 --gpus 1
    """
    from orchestrator import launch

    needs = _Needs(processes, cpus, gpus, memory, allow_command)
    _start(launch.ray(address=address), name, workers, needs, storage)


@app.command()
def status(
    engine: Which, name: o.NameArgument, namespace: Namespace = None, address: Address = "auto"
) -> None:
    """List the workers of a study that an engine has.

    Example: orch launch status slurm mlp
    """
    launcher = _launcher(engine, namespace, address)
    workers = launcher.status(name)
    if not workers:
        ending = launcher.ended(name)
        print(
            f"{engine} has no workers of study '{name}'" + (f": {ending}" if ending else ""),
            file=sys.stderr,
        )
        return
    width = max(len(worker.name) for worker in workers)
    states = max(len(worker.state) for worker in workers)
    for worker in workers:
        print(f"{worker.name:<{width}}  {worker.state:<{states}}  {worker.where}".rstrip())


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
    _launcher(engine, namespace, address).scale(name, workers, storage=storage)
    print(f"study '{name}' is to have {workers} workers", file=sys.stderr)


@app.command()
def cancel(
    engine: Which, name: o.NameArgument, namespace: Namespace = None, address: Address = "auto"
) -> None:
    """End all workers of a study; what they run is given back, and the study stays.

    Example: orch launch cancel slurm mlp
    """
    _launcher(engine, namespace, address).cancel(name)
    print(f"the workers of study '{name}' are told to end", file=sys.stderr)


@app.command()
def logs(
    engine: Which, name: o.NameArgument, namespace: Namespace = None, address: Address = "auto"
) -> None:
    """Print the last lines that each worker wrote.

    Example: orch launch logs slurm mlp
    """
    print(_launcher(engine, namespace, address).logs(name))


class _Needs(NamedTuple):
    """What each worker needs."""

    processes: int
    cpus: float | None
    gpus: int
    memory: str | None
    allow_command: bool = False


def _launcher(name: EngineName, namespace: str | None, address: str) -> Launcher:
    from orchestrator import launch

    if name is EngineName.kubernetes:
        return launch.kubernetes(namespace=namespace)
    return launch.ray(address=address) if name is EngineName.ray else launch.slurm()


def _start(
    launcher: Launcher, study: str, workers: int, needs: _Needs, storage: str | None
) -> None:
    started = launcher.start(study, workers, storage=storage, **needs._asdict())
    print(f"{started}; see to it with: {launcher.hint('status', study)}", file=sys.stderr)
