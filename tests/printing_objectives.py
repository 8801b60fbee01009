"""Objectives that print, in every way that a program can."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna

MEGABYTE = b"x" * 1023 + b"\n"


def prints(trial: optuna.Trial) -> float:
    """All ways in trial 0; nothing in trial 1; a line of its own in each other."""
    x = trial.suggest_float("x", 0, 1)
    if trial.number == 0:
        print("printed")
        print("\x1b[31mred\x1b[0m, \x1b]0;a title\x07and \tno \x08bell\x07")
        print("to standard error", file=sys.stderr)
        os.write(1, b"by the descriptor\n")
        ctypes.CDLL(None).puts(b"by C")
        subprocess.run(["sh", "-c", "echo by a child; echo and its errors >&2"], check=True)
        for step in range(4):
            print(f"\rstep {step}", end="")
        print()
        logging.getLogger("mine").warning("by a logger")
        print("postgresql://me:verysecret@host/db")
        print("Grüße, <b>&amp;</b>")
        print("no end", end="")
    elif trial.number != 1:
        print(f"only of trial {trial.number}")
    return x


def dies(trial: optuna.Trial) -> float:
    """Its first attempt is killed while it prints."""
    x = trial.suggest_float("x", 0, 1)
    print(f"attempt {trial.number}")
    if trial.number == 0:
        ctypes.CDLL(None).printf(b"the last line of C\n")
        print("its last words")
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def raises(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 1)
    trial.report(0.25, 1)
    print("before the error \x1b[1m<script>alert(1)</script>")
    raise ValueError("on purpose")


def floods(trial: optuna.Trial) -> float:
    """Prints 100 MB."""
    x = trial.suggest_float("x", 0, 1)
    for _ in range(100):
        os.write(1, MEGABYTE * 1024)
    print("the end of the flood")
    return x


def waits(trial: optuna.Trial) -> float:
    """Prints a line for each file that appears in ``PRINTING_FOLDER``, until there is ``end``.

    What it has printed is in the file ``begun``, too. The file ``die`` kills the first attempt.
    """
    x = trial.suggest_float("x", 0, 1)
    folder, seen = Path(os.environ["PRINTING_FOLDER"]), set[str]()
    print("the trial has begun")
    (folder / "begun").touch()
    step = 0
    while "end" not in seen:
        for name in sorted({path.name for path in folder.iterdir()} - seen - {"begun"}):
            print(f"saw {name}")
            with (folder / "begun").open("a") as begun:
                begun.write(f"{name}\n")
            seen.add(name)
            if name == "die" and trial.number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        step += 1
        trial.report(x, step)  # where it may be asked to leave
        time.sleep(0.05)
    return x
