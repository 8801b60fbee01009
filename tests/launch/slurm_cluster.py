"""A real Slurm on this machine: munged, slurmctld and slurmd of its own, in a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from e2e.test_server_faults import free_port
from fault_site import wait_until

_CONFIGURATION = """\
ClusterName=orchtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=60
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def need_slurm() -> None:
    """Skip the test where no Slurm can be started."""
    missing = [each for each in ("slurmctld", "slurmd", "munged") if shutil.which(each) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (Debian's package slurm-wlm); see make cluster")
    if os.geteuid() != 0:
        pytest.skip("needs root, to start a Slurm")


class SlurmCluster:
    """One node of four declared cores."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.configuration = folder / "slurm.conf"
        for each in ("state", "spool", "munge"):
            (folder / each).mkdir(mode=0o700)
        (folder / "munge" / "key").write_bytes(os.urandom(32))
        (folder / "munge" / "key").chmod(0o600)
        self.configuration.write_text(
            _CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                folder=folder,
                controller=free_port(),
                daemon=free_port(),
            )
        )
        munge = folder / "munge"
        self._run(
            "munged", "--force", f"--socket={folder}/munge.sock", f"--key-file={munge}/key",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self._run("slurmctld")
        self._run("slurmd")
        wait_until(lambda: "idle" in self("sinfo", "--noheader", "--format=%T"), 60)

    def __call__(self, *command: str) -> str:
        return self._run(*command)

    def states(self) -> dict[str, str]:
        """Each task's state by its name, as 7_0."""
        lines = self("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self("scancel", "--user=root")
            wait_until(lambda: self.states() == {}, 60)
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self._folder / name).read_text()), signal.SIGTERM)

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env={**os.environ, "SLURM_CONF": str(self.configuration)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout
