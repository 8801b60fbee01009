"""TensorBoard as a process of its own: ``python -m orchestrator.serve.tensorboard LOGDIR …``."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from orchestrator.base.files import home
from orchestrator.errors import OrchError
from orchestrator.report.hparams import HParamsLogs, without_tensorflow
from orchestrator.report.numbers import counted
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, open_study, read_logs, read_trials

_START_SECONDS = 90.0
_POLL_SECONDS = 2.0


def show_study(
    database: Database,
    study: StoredStudy,
    folder: Path | None,
    serve: bool,
    live: bool,
    host: str,
    port: int,
) -> None:
    """Write a study's logs, and serve them until interrupted.

    Args:
        database: where the study is.
        study: the study.
        folder: for the logs; None: one in ``ORCH_HOME``.
        serve: False: only write them.
        live: follow the study until it is done.
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.

    Raises:
        OrchError: the port is taken, or TensorBoard does not start.
    """
    if serve:
        port = free_port(host, port)
    folder = home() / "tensorboard" / study.name if folder is None else folder
    logs = HParamsLogs(folder, study.spec, partial(read_logs, database, study))
    count = logs.write(read_trials(database, study))
    print(f"{counted(count, 'trial')} in {folder}", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        if serve:
            _say_where(host, stack.enter_context(tensorboard(folder, host, port)))
        if live:
            _follow(database, study.name, logs)
        while serve:
            time.sleep(_POLL_SECONDS)


def _say_where(host: str, address: str) -> None:
    if host != "127.0.0.1":
        print(
            f"TensorBoard listens on {host}, without a password: whoever reaches this machine can "
            "read the study",
            file=sys.stderr,
        )
    print(f"TensorBoard at {address}#hparams (Ctrl-C ends it)", file=sys.stderr, flush=True)


def _follow(database: Database, name: str, logs: HParamsLogs) -> None:
    """Write what is new every two seconds, and once more when the study is done."""
    while True:
        study = open_study(database, name)
        trials = read_trials(database, study)
        logs.write(trials)
        ended = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)
        if study.state != "open" or ended >= study.spec.study.trials:
            return
        time.sleep(_POLL_SECONDS)


@contextmanager
def tensorboard(folder: Path, host: str, port: int) -> Iterator[str]:
    """TensorBoard on a log folder while the block runs.

    Args:
        folder: the logs.
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.

    Yields:
        The address of its page, once it answers.

    Raises:
        OrchError: the port is taken, or TensorBoard does not start.
    """
    port = free_port(host, port)
    command = [sys.executable, "-P", "-m", "orchestrator.serve.tensorboard"]
    command += ["--logdir", str(folder), "--host", host, "--port", str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://{host}:{port}/"
    try:
        _wait_for(process, address)
        yield address
    finally:
        process.terminate()
        process.wait()


def free_port(host: str, port: int) -> int:
    """The port, or any free one for 0.

    Raises:
        OrchError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OrchError(
                f"cannot listen on {host}:{port}: {error.strerror}; name another with --port"
            ) from None
        return int(probe.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            lines = process.stderr.read().decode(errors="replace").strip().splitlines()
            raise OrchError(f"TensorBoard did not start: {lines[-1] if lines else 'no reason'}")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise OrchError(f"TensorBoard did not answer at {address} within {_START_SECONDS:.0f} s")


def main() -> int:
    """TensorBoard's own command, without the import of TensorFlow."""
    without_tensorflow()
    from tensorboard.main import run_main

    run_main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
