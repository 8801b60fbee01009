"""A machine of its own inside this one: a Debian 13 with container engines, in namespaces.

Nothing is installed on this machine, and what runs there ends with the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = [
    "aardvark-dns", "ca-certificates", "crun", "curl", "docker-cli", "docker-compose", "docker.io", "iproute2",
    "iptables", "netavark", "nftables", "openssl", "podman", "procps",
]  # fmt: skip
ENVIRONMENT = {
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    # BuildKit would pull an image of its own for Podman.
    "DOCKER_BUILDKIT": "0",
}
# The engine's own root: what runs there sees this one's files no more. crun takes the old
# control groups or the new ones, not both.
_BOOT = """
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
if mountpoint --quiet sys/fs/cgroup/unified; then umount sys/fs/cgroup/unified; fi
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
cp --dereference /etc/resolv.conf etc/resolv.conf
pivot_root . mnt
exec chroot . sh -ec "umount --lazy /mnt; $2; echo ready; exec sleep infinity"
"""
_OWN_NETWORK = "ip link set lo up"
# Settings of the network outside are not to be changed from in there.
_SHARED_NETWORK = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"


def bootstrap(suite: str, packages: list[str], target: Path, *options: str) -> None:
    """A Debian of these packages, as a folder or a ``.tar``."""
    part = target.with_name(f"part-{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    subprocess.run(
        [
            "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root",
            f"--include={','.join(packages)}", *options, suite, str(part),
        ],
        check=True,
    )  # fmt: skip
    part.rename(target)


class Machine:
    """Runs commands in there."""

    def __init__(self, pid: int, network: bool) -> None:
        self.pid = pid
        self.network = network

    def command(self, *words: str) -> list[str]:
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        enter = ["nsenter", f"--target={self.pid}", "--all"]
        return [*enter, "env", "--ignore-environment", "--chdir=/source", *variables, *words]

    def __call__(self, line: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A line of shell."""
        return subprocess.run(
            self.command("bash", "-c", line),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def ok(self, line: str, timeout: float = 300) -> str:
        done = self(line, timeout)
        assert done.returncode == 0, f"{line}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def start(self, line: str, log: Path) -> None:
        """What runs until the machine ends."""
        with log.open("w") as output:
            subprocess.Popen(
                self.command("bash", "-c", line),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip


@contextmanager
def booted(root: Path, network: bool) -> Iterator[Machine]:
    """The machine on the folder that :func:`bootstrap` made; without network it reaches itself alone."""
    own = ["--mount", "--pid", "--ipc", "--uts", *([] if network else ["--net"])]
    prepare = _SHARED_NETWORK if network else _OWN_NETWORK
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "unshare", *own, "--fork", "--kill-child", "sh", "-ec", _BOOT, "boot", str(root), prepare],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": ENVIRONMENT["PATH"]},
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        yield Machine(int(children), network)
    finally:
        process.kill()
        process.wait()
