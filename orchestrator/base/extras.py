"""The packages that only some verbs need, as extras of the distribution."""

from __future__ import annotations

import importlib.util

from orchestrator.errors import UsageError

DISTRIBUTION = "optuna-orchestrator"


def require(package: str, extra: str, what: str) -> None:
    """Check that a package is installed, before it is imported.

    Args:
        package: the package's name in Python.
        extra: which extra of orch brings it.
        what: what needs it, e.g. "orch db proxy".

    Raises:
        UsageError: it is missing; the line says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise missing(package, extra, what)


def missing(package: str, extra: str, what: str) -> UsageError:
    """The error of a package that is not installed."""
    return UsageError(f"{what} needs {package}; {install(extra)}")


def install(extra: str) -> str:
    """How to install an extra, e.g. "pip install 'optuna-orchestrator[ray]'"."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
