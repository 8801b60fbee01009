"""Launch: workers on Slurm, Kubernetes or Ray.

import orchestrator as orch

cluster = orch.launch.slurm(options=["--partition=gpu"])
cluster.start("mlp", workers=8, cpus=4, gpus=1, storage="postgresql://orch@db.lab/orch")
cluster.status("mlp")
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.base.files import home
from orchestrator.launchers.launcher import Launcher, Worker

__all__ = ["Launcher", "Worker", "kubernetes", "ray", "slurm"]


def slurm(*, options: Iterable[str] = ()) -> Launcher:
    """Workers as tasks of a Slurm array job.

    Example:
        orch.launch.slurm(options=["--partition=long"]).start("mlp", workers=8, cpus=4)

    Args:
        options: further options of ``sbatch``.
    """
    from orchestrator.launchers.slurm import Slurm

    return Slurm(home() / "launch", tuple(options))


def kubernetes(
    *, namespace: str | None = None, image: str | None = None, secret: str = "orch-storage"
) -> Launcher:
    """Workers as the pods of a Kubernetes Job.

    Example:
        orch.launch.kubernetes(image="registry.lab/orch:1").start("mlp", workers=8)

    Args:
        namespace: None: that of kubectl's current context.
        image: of ``deploy/Dockerfile``, or built on it; needed to start.
        secret: a Secret with ``url``, and where needed ``password`` and ``ca.crt``.
    """
    from orchestrator.launchers.kubernetes import Kubernetes

    return Kubernetes(namespace, image or "orch:latest", secret)


def ray(*, address: str = "auto") -> Launcher:
    """Workers as detached actors of a running Ray cluster.

    Example:
        orch.launch.ray().start("mlp", workers=8, cpus=2, gpus=1)

    Args:
        address: the cluster; ``"auto"``: the one that runs on this machine.
    """
    from orchestrator.launchers.ray import Ray

    return Ray(address)
