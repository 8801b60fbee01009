"""Errors of objectives and data: one line each, what is wrong and the mend."""

from __future__ import annotations


class ObjectiveError(Exception):
    """An objective or its data cannot be used."""


class UnknownObjective(ObjectiveError):
    """No objective of that name."""


class DataError(ObjectiveError):
    """The data cannot be had, are damaged, or do not fit."""
