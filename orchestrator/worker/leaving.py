"""How a trial leaves its process without having ended."""

from __future__ import annotations

import logging
from uuid import UUID

from orchestrator.errors import OrchError
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database

_log = logging.getLogger("orch")


class TrialLeft(BaseException):
    """The trial does not go on in this process. An objective must not catch it: no Exception."""


class TrialInterrupted(TrialLeft):
    """The worker was asked to leave; the trial is given back."""


class TrialPaused(TrialLeft):
    """The trial has ended its round, and waits for a promotion."""


class LeaseLost(TrialLeft):
    """The trial is no longer this worker's; whoever took it over knows better."""


class MachineFault(TrialLeft):
    """This machine cannot do the work; the trial is given back, and the worker ends."""


class DatabaseLost(TrialLeft):
    """The database stayed away too long; the trial is kept on this machine's disk."""


def abandon(url: str, study_id: int, token: UUID) -> None:
    """Give back whatever a worker that is ending at once still holds."""
    database = Database(url)
    try:
        claims = Claims(database, study_id, token)
        for trial_id in claims.leased():
            claims.give_back(trial_id)
        claims.leave()
    except OrchError as error:
        _log.warning("its trial is taken back after the grace period: %s", error)
    finally:
        database.close()
