"""Software: which code and which versions a study is made with, found without importing them."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import Version

from objectives.base import ObjectiveError, locate

# What a study pins, each under the names by which it may be installed.
_PACKAGES = {
    "orch": ("orch",),
    "optuna": ("optuna",),
    "keras": ("keras",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
}
_MODULE = "module "  # and its name: a module that the objective imports from beside it
_INSTALLED = {"site-packages", "dist-packages"}
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
    pins = _versions_and_source(objective)
    if "source" in pins:
        for name, path in _beside(_module_of(objective)):
            pins[_MODULE + name] = _digest(path)
    return pins


def software_here(objective: str, pinned: Mapping[str, str]) -> dict[str, str]:
    """The same of this machine, for what a study has pinned: older ones have pinned no modules."""
    pins = _versions_and_source(objective)
    for key in pinned:
        path = _path_of(key.removeprefix(_MODULE)) if key.startswith(_MODULE) else None
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
    source = _path_of(_module_of(objective))
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


def _module_of(objective: str) -> str:
    """The module that defines it; empty: nobody knows."""
    try:
        return locate(objective).partition(":")[0]
    except ObjectiveError:
        return ""


def _find(top: str) -> tuple[Path | None, list[Path]]:
    """The file of a module or package without a dot in its name, and the folders of its parts."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as the objective itself is found
    # Of each finder: a mere folder of that name hides no package, as it would for import.
    specs = [finder.find_spec(top, None) for finder in sys.meta_path if top]
    found = sorted(filter(None, specs), key=lambda spec: spec.origin is None)
    if not found:
        return None, []
    origin, folders = found[0].origin, found[0].submodule_search_locations or ()
    return Path(origin) if origin and os.path.isfile(origin) else None, list(map(Path, folders))


def _path_of(module: str) -> Path | None:
    """The file of a module, found by its name alone: no package's own code runs."""
    top, *parts = module.split(".")
    file, folders = _find(top)
    if not parts:
        return file
    for path in (folder.joinpath(*parts) for folder in folders):
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    return None


def _beside(objective: str) -> Iterator[tuple[str, Path]]:
    """The modules of the same package or folder that a module needs, and their files."""
    own = _top(objective)
    folder = _folder(own)

    def is_near(top: str) -> bool:
        if top == own:
            return True
        here = folder is not None and folder.name not in _INSTALLED and _folder(top) == folder
        return here and top not in sys.stdlib_module_names

    seen: set[str] = set()
    pending = [objective]
    while pending:
        name = pending.pop()
        if name in seen or not is_near(_top(name)):
            continue
        seen.add(name)
        pending.append(name.rpartition(".")[0])  # a package's own file is run first
        path = _path_of(name)
        if path is None:
            continue  # a name out of a module, not a module
        if name != objective:
            yield name, path
        pending += _imported(name, path)


def _imported(module: str, path: Path) -> Iterator[str]:
    """Each name that a file imports, wherever in it; some are of modules, some are out of them."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # no Python source
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                [*(above if node.level else ()), *([node.module] if node.module else ())]
            )
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _folder(top: str) -> Path | None:
    """Where a module or package without a dot in its name lies."""
    file, folders = _find(top)
    where = folders[0] if folders else file
    return None if where is None else where.parent.resolve()
