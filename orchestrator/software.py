"""Software: which code and which versions a study is made with, and how another machine differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import Version

from orchestrator.modules import modules_beside, path_of
from orchestrator.training.errors import ObjectiveError
from orchestrator.training.references import Reference
from orchestrator.training.registry import locate

# What a study pins, each under the names by which it may be installed.
_PACKAGES = {
    "orch": ("orch",),
    "optuna": ("optuna",),
    "keras": ("keras",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
}
_MODULE = "module "  # and its name: a module that the objective imports from beside it
_MOST_NAMED = 4
# What a report names beside: it has its part in the numbers, but another version is no fault.
_NAMED = {"scikit-learn": ("scikit-learn",), "numpy": ("numpy",)}


def versions() -> dict[str, str]:
    """The packages that decide what a training does, with the versions that are installed here."""
    found = {name: _version(names) for name, names in (_PACKAGES | _NAMED).items()}
    return {name: value for name, value in found.items() if value is not None}


def software_of(objective: str) -> dict[str, str]:
    """What a study of this objective pins.

    Returns:
        The version of each package that is installed; under ``source`` the SHA-256 of the file that
        defines the objective, none where no file does; and under ``module NAME`` that of each
        module of its own package or folder that it imports, itself or through others. What else is
        installed is left to the versions. Line endings make no difference.
    """
    pins, place = _versions_and_source(objective), _place_of(objective)
    if place is not None and "source" in pins:
        for name, path in modules_beside(place.module, place.folder):
            pins[_MODULE + name] = _digest(path)
    return pins


def software_here(objective: str, pinned: Mapping[str, str]) -> dict[str, str]:
    """The same of this machine, for what the study has pinned; older studies pin less."""
    pins, place = _versions_and_source(objective), _place_of(objective)
    if "source" not in pinned:
        pins.pop("source", None)
    if place is None:
        return pins
    for key in pinned:
        name = key.removeprefix(_MODULE)
        path = path_of(name, place.folder) if name != key else None
        if path is not None:
            pins[key] = _digest(path)
    return pins


def differences(pinned: Mapping[str, str], here: Mapping[str, str]) -> str:
    """In what this machine's software is another, in words; empty: in nothing."""
    words = []
    for name in sorted(pinned.keys() | here.keys()):
        then, now = pinned.get(name, "none"), here.get(name, "none")
        if then == now:
            continue
        if name == "source" or name.startswith(_MODULE):
            what = "objective's source" if name == "source" else name
            words.append(f"the {what} is {'not to be found here' if now == 'none' else 'another'}")
        else:
            words.append(f"{name} {now} instead of {then}")
    more = len(words) - _MOST_NAMED
    return ", ".join(words[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else []))


def _versions_and_source(objective: str) -> dict[str, str]:
    found = {name: _version(names) for name, names in _PACKAGES.items()}
    place = _place_of(objective)
    source = None if place is None else path_of(place.module, place.folder)
    found["source"] = None if source is None else _digest(source)
    return {name: value for name, value in found.items() if value is not None}


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        # Of orch the release alone: the commits after it have versions too, and work together.
        return Version(found).base_version if name == "orch" else found
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _place_of(objective: str) -> Reference | None:
    """Where its code is; None: nobody knows."""
    try:
        return locate(objective)
    except ObjectiveError:
        return None
