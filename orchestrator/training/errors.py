"""Errors of objectives and data: one line each, what is wrong and the mend."""

from __future__ import annotations


class ObjectiveError(Exception):
    """An objective or its data cannot be used."""


class WrongUse(ObjectiveError):
    """The study asks for what the objective does not have or cannot take, in any trial."""


class UnknownObjective(ObjectiveError):
    """No objective of that name."""


class DataError(ObjectiveError):
    """The data cannot be had, are damaged, or do not fit."""
