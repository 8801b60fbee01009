"""The versions of the packages that decide what a training does."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("orch", "optuna", "keras", "tensorflow", "scikit-learn", "numpy")


def versions() -> dict[str, str]:
    """Package and version, as far as they are installed here."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
