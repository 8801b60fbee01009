"""Modules: where their files are and what they import, found without running any of their code."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from orchestrator.training import builtin

_INSTALLED = {"site-packages", "dist-packages"}


def path_of(module: str, first: str) -> Path | None:
    """The file of a module, found by its name alone: no package's own code runs.

    Args:
        module: its name.
        first: the folder that is searched first.
    """
    top, *parts = module.split(".")
    file, folders = _find(top, first)
    if module.startswith(f"{builtin.__name__}."):
        parts, folders = module.split(".")[-1:], [Path(folder) for folder in builtin.__path__]
    if not parts:
        return file
    for path in (folder.joinpath(*parts) for folder in folders):
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    return None


def modules_beside(module: str, first: str) -> Iterator[tuple[str, Path]]:
    """The modules of the same package or folder that a module needs, and their files."""
    own = _top(module)
    folder = _folder(own, first)

    def is_near(top: str) -> bool:
        if top == own:
            return True
        if folder is None or folder.name in _INSTALLED or top in sys.stdlib_module_names:
            return False
        return _folder(top, first) == folder

    seen: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name in seen or not is_near(_top(name)):
            continue
        seen.add(name)
        pending.append(name.rpartition(".")[0])  # a package's own file is run first
        path = path_of(name, first)
        if path is None:
            continue  # a name out of a module, not a module
        if name != module:
            yield name, path
        pending += _imported(name, path)


def _find(top: str, first: str) -> tuple[Path | None, list[Path]]:
    """The file of a module or package without a dot in its name, and the folders of its parts."""
    path = [first, *sys.path]  # as the objective itself is found
    # Of each finder: a mere folder of that name hides no package, as it would for import.
    specs = [
        finder.find_spec(top, path if finder is PathFinder else None)
        for finder in sys.meta_path
        if top
    ]
    found = sorted(filter(None, specs), key=lambda spec: spec.origin is None)
    if not found:
        return None, []
    origin, folders = found[0].origin, found[0].submodule_search_locations or ()
    return Path(origin) if origin and os.path.isfile(origin) else None, list(map(Path, folders))


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


def _folder(top: str, first: str) -> Path | None:
    """Where a module or package without a dot in its name lies."""
    file, folders = _find(top, first)
    where = folders[0] if folders else file
    return None if where is None else where.parent.resolve()
