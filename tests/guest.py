"""An objective that looks at its process, and the same under plain Optuna: ``python guest.py``.

What it finds goes to the file of ``GUEST_OUT``, as JSON. Seeds are set when it is imported, as a
user's script sets them.
"""

from __future__ import annotations

import asyncio
import decimal
import faulthandler
import gc
import hashlib
import io
import json
import locale
import logging
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psycopg2
import psycopg2.extras

warnings.filterwarnings("once", "guest")
random.seed(7)
np.random.seed(7)


def snapshot() -> dict[str, Any]:
    """All of a process that a library could change for its user."""
    return {
        **{f"signal {each.name}": _word(signal.getsignal(each)) for each in signal.Signals},
        **{f"variable {name}": value for name, value in os.environ.items()},
        **_loggers(),
        **_psycopg2(),
        **_descriptors(),
        **_interpreter(),
        **_numbers(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "warnings": [str(each) for each in warnings.filters],
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.callbacks],
        "faulthandler": faulthandler.is_enabled(),
    }


def _word(handler: object) -> str:
    if handler is signal.default_int_handler:
        return "Python's own"
    return str(handler) if isinstance(handler, signal.Handlers) else "a handler"


def _loggers() -> dict[str, Any]:
    root = logging.getLogger()
    loggers = {"root": root, **root.manager.loggerDict}
    return {
        "logging": [root.manager.disable, _class(logging.getLoggerClass()), str(logging.raiseExceptions)],
        **{
            f"logger {name}": [
                logger.level,
                [_class(type(handler)) for handler in logger.handlers],
                [_class(type(each)) for each in logger.filters],
                logger.propagate,
                logger.disabled,
            ]
            for name, logger in loggers.items()
            if isinstance(logger, logging.Logger)
        },
    }  # fmt: skip


def _class(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _psycopg2() -> dict[str, Any]:
    extensions = psycopg2.extensions
    return {
        "psycopg2's wait callback": str(extensions.get_wait_callback()),
        "psycopg2's adapters": sorted(_class(cls) for cls, _ in extensions.adapters),
        "psycopg2's types": sorted([*extensions.string_types, *extensions.binary_types]),
    }


def _named(finder: object) -> str:
    """Without its address, which is another in each process."""
    return _class(finder if isinstance(finder, type) else type(finder))


def _descriptors() -> dict[str, Any]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return {}
    found = {}
    for each in (0, 1, 2):
        try:
            found[f"descriptor {each}"] = os.readlink(folder / str(each))
        except OSError:
            found[f"descriptor {each}"] = "closed"
    return found


def _interpreter() -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    names = ("excepthook", "displayhook", "unraisablehook", "breakpointhook")
    return {
        "folder": os.getcwd(),
        "sys.path": list(dict.fromkeys(sys.path)),
        "sys.meta_path": [_named(each) for each in sys.meta_path if "editable" not in str(each)],
        "hooks": [_class(type(getattr(sys, name))) for name in names],
        "thread's hook": threading.excepthook.__module__,
        "streams": [_class(type(each)) for each in (sys.stdin, sys.stdout, sys.stderr)],
        "umask": mask,
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()],
        "resources": [resource.getrlimit(each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
        "nice": os.nice(0),
        "tracing": [str(sys.gettrace()), str(sys.getprofile()), tracemalloc.is_tracing()],
        "start method": multiprocessing.get_start_method(allow_none=True),
        "event loops": _class(type(asyncio.get_event_loop_policy())),
        "socket timeout": socket.getdefaulttimeout(),
        "locale": locale.setlocale(locale.LC_ALL),
        "matplotlib": "matplotlib" in sys.modules,
        "showwarning": _class(type(warnings.showwarning)) + warnings.showwarning.__module__,
    }  # fmt: skip


def _numbers() -> dict[str, Any]:
    state = np.random.get_state(legacy=False)
    return {
        "random": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
        "numpy.random": hashlib.sha256(repr(state).encode()).hexdigest(),
        "numpy.geterr": np.geterr(),
        "numpy.printoptions": {key: str(value) for key, value in np.get_printoptions().items()},
        "decimal": str(decimal.getcontext()),
        "optuna's verbosity": optuna.logging.get_verbosity(),
    }


def look(trial: optuna.Trial) -> float:
    """Looks in its third trial, after all that a trial does."""
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 1)
    trial.set_user_attr("seen", True)
    trial.should_prune()
    if trial.number == 2:
        Path(os.environ["GUEST_OUT"]).write_text(json.dumps(snapshot()))
    return x


def queries_slowly(trial: optuna.Trial) -> float:
    """A query of the user's own, on a server of their own, that takes five seconds."""
    x = trial.suggest_float("x", 0, 1)
    connection = psycopg2.connect(os.environ["USERDB"])
    connection.cursor().execute("SELECT pg_sleep(5)")
    connection.close()
    return x


def copies(trial: optuna.Trial) -> float:
    """psycopg2 refuses COPY while a wait callback is set."""
    x = trial.suggest_float("x", 0, 1)
    connection = psycopg2.connect(os.environ["USERDB"])
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (a int)")
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO("1\n2\n"))
        cursor.execute("SELECT count(*) FROM t")
        assert cursor.fetchone() == (2,)
    connection.close()
    return x


if __name__ == "__main__":
    optuna.create_study().optimize(look, n_trials=3)
