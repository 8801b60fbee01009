"""The cores and GPUs of this machine, shared out to worker processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from orchestrator.errors import UsageError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """The cores that this process may use: its affinity and its container's limit count."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
        available = min(available, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no container, or one without a limit ("max")
    return available


def divide_threads(available: int, processes: int) -> int:
    """CPU threads for each of K processes, so that together they do not oversubscribe."""
    return max(1, available // max(1, processes))


def default_workers() -> int:
    """How many workers ``orch run`` starts: one a core, at most four."""
    return min(4, cores())


def parse_gpus(option: str | None) -> list[str]:
    """The GPUs that ``--gpus`` names: ``all``, ``none``, or a list such as ``0,1``.

    Returns:
        CUDA device names to share out; ``[""]`` hides every GPU; empty leaves all as it is.

    Raises:
        UsageError: a GPU that this machine does not have.
    """
    present = list_gpus()
    if option is None or option == "all":
        return present
    if option == "none":
        return [""]
    chosen = [name.strip() for name in option.split(",") if name.strip()]
    for name in chosen:
        if name not in present:
            have = ", ".join(present) or "none"
            raise UsageError(f"--gpus: no GPU '{name}' on this machine; it has {have}")
    return chosen


def list_gpus() -> list[str]:
    """CUDA names of the GPUs here, without loading TensorFlow."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listing.stdout.split()
