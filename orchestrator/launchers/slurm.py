"""Slurm: an array job, one worker a task, that survives requeue, preemption and time limits."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import OrchError, UsageError
from orchestrator.launchers.launcher import Job, Launcher, Worker, call, label

_INSTALL = "run this on a login node of a Slurm cluster (Debian: apt install slurm-client)"
# How long before the time limit a task leaves and queues again; an epoch should fit.
_NOTICE_SECONDS = 120
_TAIL_LINES = 20

# TERM comes with preemption, requeue and scancel: Slurm itself queues the task again, or not.
# USR1 comes before the time limit: the task queues itself again. The shell waits in the
# background's stead, because it handles a signal only between commands.
_SCRIPT = """\
#!/bin/bash
{directives}
{command} &
worker=$!
trap 'kill -TERM "$worker" 2>/dev/null' TERM
trap 'again=yes; kill -TERM "$worker" 2>/dev/null' USR1
while :; do
    wait "$worker"
    code=$?
    kill -0 "$worker" 2>/dev/null || break
done
if [ -n "${{again:-}}" ] && [ "$code" -ne 0 ]; then
    # By the task's name: the number of one task is also that of the whole array.
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
    sleep 60  # Slurm ends this task meanwhile
fi
exit "$code"
"""


class Slurm(Launcher):
    """Workers as tasks of array jobs that carry the study's name.

    Args:
        folder: for the script and the logs; the nodes must see it.
        options: further options of ``sbatch``, as ``--partition=gpu``.
    """

    name = "slurm"

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._options = options

    def submit(self, job: Job, workers: int) -> str:
        if self.status(job.study):
            raise UsageError(
                f"Slurm has workers of study '{job.study}' already; change their number with: "
                + self.hint("scale", job.study, "--workers", str(workers))
            )
        script = self._script_path(job.study)
        script.parent.mkdir(parents=True, exist_ok=True)
        # What Slurm refuses was not launched: `scale` must not find it.
        submitted = script.with_name("slurm.new.sh")
        submitted.write_text(self.script(job))
        try:
            told = self._submit(submitted, workers)
            submitted.replace(script)
        finally:
            submitted.unlink(missing_ok=True)
        return told

    def planned(self, job: Job, workers: int) -> str:
        return self.script(job)

    def script(self, job: Job) -> str:
        """The batch script that ``sbatch`` takes."""
        directives = [
            f"--job-name={label(job.study)}",
            "--ntasks=1",
            f"--cpus-per-task={math.ceil(job.cpus)}",
            "--requeue",
            "--open-mode=append",
            f"--signal=B:USR1@{_NOTICE_SECONDS}",
            f"--output={self._script_path(job.study).parent}/%A_%a.log",
        ]
        directives += [f"--gres=gpu:{job.gpus}"] if job.gpus else []
        directives += [f"--mem={job.memory}"] if job.memory else []
        command = [sys.executable, "-P", "-m", "orchestrator", *job.arguments()]
        return _SCRIPT.format(
            directives="\n".join(f"#SBATCH {each}" for each in (*directives, *self._options)),
            command=shlex.join(command),
        )

    def status(self, study: str) -> list[Worker]:
        lines = call(
            ["squeue", "--me", "--noheader", "--array", f"--name={label(study)}",
             "--format=%i|%T|%N"],
            _INSTALL,
        ).splitlines()  # fmt: skip
        return [Worker(*line.strip().split("|")) for line in lines]

    def rescale(self, study: str, workers: int) -> None:
        members = self.status(study)
        more = workers - len(members)
        if more > 0:
            if not self._script_path(study).exists():
                raise OrchError(
                    f"study '{study}' was not launched from here; start with: "
                    + shlex.join(["orch", "launch", "slurm", study, "--workers", str(workers)])
                )
            self._submit(self._script_path(study), more)
        elif more < 0:
            # Those that wait go first.
            idlest = sorted(members, key=lambda member: member.state == "RUNNING")
            call(["scancel", *(member.name for member in idlest[:-more])], _INSTALL)

    def cancel(self, study: str) -> None:
        call(["scancel", "--me", f"--name={label(study)}"], _INSTALL)

    def logs(self, study: str) -> str:
        parts = []
        for path in sorted(self._script_path(study).parent.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            parts.append("\n".join([f"== {path.stem}", *lines]))
        return "\n".join(parts)

    def _submit(self, script: Path, workers: int) -> str:
        told = call(["sbatch", "--parsable", f"--array=0-{workers - 1}", str(script)], _INSTALL)
        return f"array job {told.strip().split(';')[0]}"

    def _script_path(self, study: str) -> Path:
        return self._folder / study / "slurm.sh"
