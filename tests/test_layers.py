"""Imports run one way (DESIGN.md): cli, then launch, report and worker, then study, then
search and storage, then spec. Objectives know nothing of the orchestrator."""

from __future__ import annotations

import ast
from pathlib import Path

import objectives
import orchestrator

_LAYERS = [
    {"cli"},
    {"doctor", "launch"},
    {"winner"},
    {"imports", "report", "worker"},
    {"study"},
    {"resolve"},
    {"search", "storage", "software"},
    {"spec"},
    {"sections"},
    {"domains", "durations"},
    {"errors"},
]
_RANK = {part: rank for rank, layer in enumerate(_LAYERS) for part in layer}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_no_module_imports_from_a_layer_above_its_own() -> None:
    root = Path(orchestrator.__path__[0])
    wrong = []
    for path in sorted(root.rglob("*.py")):
        part = path.relative_to(root).parts[0].removesuffix(".py")
        if part in ("__init__", "__main__"):
            continue
        for name in _imports(path):
            pieces = name.split(".")
            if pieces[0] != "orchestrator" or len(pieces) < 2 or pieces[1] == part:
                continue
            if _RANK[pieces[1]] <= _RANK[part]:
                wrong.append(f"{path.relative_to(root)} imports {name}")
    assert wrong == []


def test_objectives_import_nothing_of_the_orchestrator() -> None:
    for path in Path(objectives.__path__[0]).rglob("*.py"):
        assert not [name for name in _imports(path) if name.startswith("orchestrator")], path


def test_tensorflow_is_imported_only_in_objectives() -> None:
    for path in Path(orchestrator.__path__[0]).rglob("*.py"):
        names = {name.split(".")[0] for name in _imports(path)}
        assert not names & {"tensorflow", "keras"}, path
