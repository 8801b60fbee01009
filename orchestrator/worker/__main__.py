"""The worker process, as the supervisor starts it. The storage's URL comes by the environment,
so that no password shows in the list of processes."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import TextIO
from uuid import UUID

from orchestrator.errors import OrchError
from orchestrator.spec.command import is_command
from orchestrator.storage.claims import worker_id
from orchestrator.training import handover
from orchestrator.training.registry import locate
from orchestrator.worker.endings import abandon
from orchestrator.worker.output import Marks, write_by_lines
from orchestrator.worker.process import TOKEN, Exit
from orchestrator.worker.worker import Worker, WorkerOptions

_log = logging.getLogger("orch")

_ORPHAN_PATIENCE_SECONDS = 5.0


def main() -> int:
    options = _options()
    write_by_lines()
    faulthandler.enable()  # the traceback of a crash is in the log, and so in its trial's reason
    url = os.environ["ORCH_STORAGE"]
    token = UUID(os.environ.pop(TOKEN))
    marks = Marks(sys.stderr.fileno(), worker_id(token))
    _log_to_our_output(marks)
    if options.handover:
        handed = handover.read(options.supervisor)
        if handed is None:
            return Exit.FAILED  # the supervisor has ended
        handover.take(handed)
    started: list[Worker] = []
    _leave_with_supervisor(options.supervisor, url, started)
    try:
        worker = Worker(
            url,
            options.study,
            WorkerOptions(token, options.threads, options.stay, options.timeout, marks),
        )
        _leave_on_signals(worker)
        started.append(worker)
        if not (is_command(worker.objective) or handover.is_handed_over(worker.objective)):
            locate(worker.objective).run_from_here()
        worker.run()
    except OrchError as error:
        _log.error("%s", error)
        return Exit.of(error)
    except Exception:
        _log.exception("an error of orch itself; please report it")
        return Exit.CRASHED
    return 0


class _OurLines(logging.StreamHandler[TextIO]):
    """Writes what we say into the worker's output, not into that of the trial that runs.

    A warning is about the trial: it is the trial's.
    """

    def __init__(self, marks: Marks) -> None:
        super().__init__(sys.stderr)
        self._marks = marks

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            super().emit(record)
        else:
            self._marks.write_outside(self.format(record) + self.terminator)


def _log_to_our_output(marks: Marks) -> None:
    # Our logger alone. The others are the objective's: it may configure the root itself, and then
    # our lines must not come twice.
    handler = _OurLines(marks)
    handler.setFormatter(logging.Formatter("[%(process)d] %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.DEBUG if os.environ.get("ORCH_DEBUG") else logging.INFO)
    _log.propagate = False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.worker")
    parser.add_argument("study")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--supervisor", type=int, required=True)
    parser.add_argument("--handover", action="store_true")
    return parser.parse_args()


def _leave_on_signals(worker: Worker) -> None:
    process = os.getpid()
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}

    def forget() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    # A signal that reaches a child before it has forgotten our handlers would be lost: Python drops
    # what arrives between the fork and its own hooks. So it waits meanwhile.
    masks: dict[int, set[int]] = {}

    def hold_back() -> None:
        masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, before)

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident()))

    def start_as_child() -> None:
        forget()
        let_through()

    def leave(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # forked by C code, which no hook of Python's sees
            forget()
            os.kill(os.getpid(), signum)
            return
        if worker.leaving:
            # A second signal ends it at once; the supervisor gives the trial back.
            os._exit(Exit.INTERRUPTED)
        worker.leave()

    for each in before:
        signal.signal(each, leave)
    # What the objective forks ends as it would without us.
    os.register_at_fork(
        before=hold_back, after_in_parent=let_through, after_in_child=start_as_child
    )


def _leave_with_supervisor(pipe: int, url: str, started: list[Worker]) -> None:
    # The supervisor holds the other end of the pipe; it closes with the supervisor, however that
    # ends. What the objective starts does not get it.
    os.set_inheritable(pipe, False)

    def watch() -> None:
        while os.read(pipe, 64):
            pass
        for worker in started:
            worker.leave()
            threading.Event().wait(_ORPHAN_PATIENCE_SECONDS)
            abandon(url, worker.study_id, worker.token)
        os._exit(1)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
