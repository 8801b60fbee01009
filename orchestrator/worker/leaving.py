"""How a trial leaves its process without having ended."""

from __future__ import annotations


class TrialLeft(BaseException):
    """The trial does not go on in this process. An objective must not catch it: no Exception."""


class TrialInterrupted(TrialLeft):
    """The worker was asked to leave; the trial is given back."""


class TrialPaused(TrialLeft):
    """The trial has ended its round, and waits for a promotion."""


class LeaseLost(TrialLeft):
    """The trial is no longer this worker's; whoever took it over knows better."""


class DatabaseLost(TrialLeft):
    """The database stayed away too long; the trial is kept on this machine's disk."""
