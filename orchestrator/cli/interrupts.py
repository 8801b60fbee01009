"""Interrupts: Ctrl-C and the signals of whoever ends us, and what is said then."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from orchestrator.errors import OrchError

if TYPE_CHECKING:
    from orchestrator import Study

INTERRUPTED = 130


@contextmanager
def interrupts() -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP are a KeyboardInterrupt, as Ctrl-C is."""
    handled = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        handled.append(signal.SIGHUP)
    before = {each: signal.signal(each, _interrupt) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def say_stopped(find: Callable[[], Study], rest: str) -> int:
    """Say that the user stopped the workers, and what remains to be done, if anything.

    Args:
        find: the study.
        rest: what to say where it is not done.

    Returns:
        The exit code.
    """
    try:
        study = find()
        if study.state == "done":
            done = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)
            rest = (
                f"study {study.name} is done, with {done} of {study.spec.study.trials} trials; "
                f"see what it found with: orch report {study.name}"
            )
    except OrchError:
        pass  # the storage may be what it was stopped for
    print(f"stopped; {rest}", file=sys.stderr, flush=True)
    return INTERRUPTED
