"""Software: which code and which versions a study is made with, found without importing them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from objectives.base import ObjectiveError, locate

# What a study pins, each under the names by which it may be installed.
_PACKAGES = {
    "orch": ("orch",),
    "optuna": ("optuna",),
    "keras": ("keras",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
}
# What a report names beside: it has its part in the numbers, but another version is no fault.
_NAMED = {"scikit-learn": ("scikit-learn",), "numpy": ("numpy",)}


def versions() -> dict[str, str]:
    """The packages that decide what a training does, with the versions that are installed here."""
    found = {name: _version(names) for name, names in (_PACKAGES | _NAMED).items()}
    return {name: value for name, value in found.items() if value is not None}


def software_of(objective: str) -> dict[str, str]:
    """What a study of this objective pins on this machine.

    Returns:
        The version of each package that is installed, and under ``source`` the SHA-256 of the file
        that defines the objective, whatever its line endings; none where no file does.
    """
    found = {name: _version(names) for name, names in _PACKAGES.items()}
    found["source"] = _fingerprint(objective)
    return {name: value for name, value in found.items() if value is not None}


def differences(pinned: Mapping[str, str], here: Mapping[str, str]) -> str:
    """In what this machine's software is another, in words; empty: in nothing."""
    words = []
    for name in sorted(pinned.keys() | here.keys()):
        then, now = pinned.get(name, "none"), here.get(name, "none")
        if then == now:
            continue
        if name == "source":
            state = "not to be found here" if now == "none" else "another"
            words.append(f"the objective's source is {state}")
        else:
            words.append(f"{name} {now} instead of {then}")
    return ", ".join(words)


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _fingerprint(objective: str) -> str | None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as the objective itself is found
    try:
        module = importlib.util.find_spec(locate(objective).partition(":")[0])
        if module is None or module.origin is None:
            return None
        with open(module.origin, "rb") as file:
            text = file.read().replace(b"\r\n", b"\n")
    except (ObjectiveError, ImportError, ValueError, OSError):
        return None
    return hashlib.sha256(text).hexdigest()
