"""TensorBoard as a process of its own: ``python -m orchestrator.serve.tensorboard LOGDIR …``."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.report.hparams import without_tensorflow

_START_SECONDS = 90.0


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
