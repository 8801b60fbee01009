"""Errors: one line each, what is wrong and how to fix it.

OrchError                     the work failed
├── NoSuchStudy
├── StudyFailed               the study has stopped, or this machine may not take part
├── DataError                 the data or a model's file are missing, damaged, or do not fit
├── FailedTrialError          raise it in an objective: no retry
├── UsageError                wrong use
│   └── ObjectiveError        the objective cannot be loaded or used
│       ├── UnknownObjective
│       └── WrongUse          found in a trial, and true of every trial
└── StorageError              no storage
    ├── StorageUnavailable    it does not answer now
    ├── PatienceExceeded      it did not answer for too long
    ├── StorageRefused        it answers, and this role may not
    └── Unstorable            it answers, and cannot hold the value
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class OrchError(Exception):
    """The work failed; the message says what is wrong and how to fix it."""


class NoSuchStudy(OrchError):
    """No study of that name is in the storage."""


class StudyFailed(OrchError):
    """Too many configurations in a row failed, or a worker may not take part."""


class DataError(OrchError):
    """The data or a model's file cannot be had, are damaged, or do not fit."""


class FailedTrialError(OrchError):
    """Raise it in an objective: this configuration fails, without a retry."""


class UsageError(OrchError):
    """Wrong use: an unknown name, an unknown option or an impossible value."""


class ObjectiveError(UsageError):
    """The objective cannot be loaded or used."""


class UnknownObjective(ObjectiveError):
    """No objective of that name."""


class WrongUse(ObjectiveError):
    """The study asks for what the objective does not have or cannot take, in any trial."""


class StorageError(OrchError):
    """No storage: it cannot be reached, refuses us, or holds what we cannot read."""


class NoTables(StorageError):
    """The database is there, and has no tables of orch yet."""


class StorageRefused(StorageError):
    """The storage is there, and this role may not do that."""


class Unstorable(StorageError):
    """The storage is there, and cannot hold what was to be written."""


class StorageUnavailable(StorageError):
    """The storage does not serve now; asking again later may help."""


class PatienceExceeded(StorageError):
    """The storage was out of reach for longer than ``worker.storage_patience``."""


def printable(text: str) -> str:
    """The text without what a terminal obeys: names may come from anywhere. Lines stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "�", text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Word the known name nearest to ``name``, or all of them when none is near.

    Returns:
        ``"did you mean 'tpe'?"`` or ``"known are a, b, c"``.
    """
    candidates = sorted(known)
    return _close(name, candidates) or _listed(candidates)


def nearest_of_all(name: str, known: Iterable[str]) -> str:
    """As :func:`nearest`, and all of them behind it: for names that few people know.

    Returns:
        ``"did you mean 'loss'? known are accuracy, loss"`` or ``"known are accuracy, loss"``.
    """
    candidates = sorted(known)
    return f"{_close(name, candidates)} {_listed(candidates)}".strip()


def _close(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def _listed(candidates: list[str]) -> str:
    return "known are " + ", ".join(candidates) if candidates else "none is known"
