"""What a study pins: its software, its objective's source and its data; compared anywhere."""

from __future__ import annotations

import ast
import hashlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.version import Version

from orchestrator.base.extras import DISTRIBUTION
from orchestrator.base.references import Reference
from orchestrator.errors import ObjectiveError, StudyFailed
from orchestrator.resolve.objective import pin_data
from orchestrator.spec.command import arguments_of, filled, is_command, placeholders
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy
from orchestrator.training import builtin, handover
from orchestrator.training.base import Objective
from orchestrator.training.registry import locate

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


# What a study pins, each under the names by which it may be installed.
_PACKAGES = {
    "orch": (DISTRIBUTION,),
    "optuna": ("optuna",),
    "keras": ("keras",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
}
_MODULE = "module "  # and its name: a module that the objective imports from beside it
_DATA_MODULE = "data module "  # and its name: one that the data function imports from beside it
_FILE = "file "  # and its path: a file that a command names
_OF_COMMANDS = ("orch", "optuna")  # what else it uses is in an environment of its own
_MOST_NAMED = 4
# What a report names beside: it affects the numbers, but its version may differ.
_NAMED = {"scikit-learn": ("scikit-learn",), "numpy": ("numpy",)}


def versions() -> dict[str, str]:
    """The packages that decide what a training does, with the versions that are installed here."""
    found = {name: _version(names) for name, names in (_PACKAGES | _NAMED).items()}
    return {name: value for name, value in found.items() if value is not None}


def software_of(objective: str, data: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What a study of this objective pins.

    Args:
        objective: its reference.
        data: the facts of the study's data.

    Returns:
        The version of each package that is installed; under ``source`` the SHA-256 of the file that
        defines the objective, none where no file does; and under ``module NAME`` that of each
        module of its own package or folder that it imports, itself or through others. What else is
        installed is left to the versions. Line endings make no difference. Of a command, under
        ``file PATH`` that of each file that it names. Of a data function that is pinned by its
        source, under ``data module NAME`` that of each further module that it imports so.
    """
    if is_command(objective):
        files = {_FILE + path: _digest_of_file(path) for path in named_files(objective)}
        return _versions(_OF_COMMANDS) | files
    pins, place = _versions_and_source(objective), _place_of(objective)
    if place is not None and "source" in pins:
        for name, path in modules_beside(place.module, place.folder):
            pins[_MODULE + name] = _digest(path)
    where = _place_of_data(data)
    if where is not None:
        for name, path in modules_beside(where.module, where.folder):
            if _MODULE + name not in pins:
                pins[_DATA_MODULE + name] = _digest(path)
    return pins


def software_here(
    objective: str, pinned: Mapping[str, str], data: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The same of this machine, for what the study has pinned; older studies pin less."""
    if is_command(objective):
        named = [key.removeprefix(_FILE) for key in pinned if key.startswith(_FILE)]
        files = {_FILE + path: _digest_of_file(path) for path in named if os.path.isfile(path)}
        return _versions(_OF_COMMANDS) | files
    pins, place = _versions_and_source(objective), _place_of(objective)
    if "source" not in pinned:
        pins.pop("source", None)
    for prefix, where in ((_MODULE, place), (_DATA_MODULE, _place_of_data(data))):
        for key in pinned:
            name = key.removeprefix(prefix)
            path = path_of(name, where.folder) if where is not None and name != key else None
            if path is not None:
                pins[key] = _digest(path)
    return pins


def differences(pinned: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What differs in this machine's software, in words; empty where nothing does."""
    words = []
    for name in sorted(pinned.keys() | here.keys()):
        then, now = pinned.get(name, "none"), here.get(name, "none")
        if then == now:
            continue
        if name == "source" or name.startswith((_MODULE, _DATA_MODULE, _FILE)):
            what = "objective's source" if name == "source" else name
            words.append(f"the {what} {'is not to be found here' if now == 'none' else 'differs'}")
        else:
            words.append(f"{name} {now} instead of {then}")
    more = len(words) - _MOST_NAMED
    return ", ".join(words[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else []))


def _versions_and_source(objective: str) -> dict[str, str]:
    found: dict[str, str | None] = dict(_versions(_PACKAGES))
    place, handed = _place_of(objective), handover.find(objective)
    source = None if place is None else path_of(place.module, place.folder)
    found["source"] = None if source is None else _digest(source)
    if handed is not None:
        found["source"] = handed.digest
    return {name: value for name, value in found.items() if value is not None}


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {name: _version(_PACKAGES[name]) for name in packages}
    return {name: value for name, value in found.items() if value is not None}


def named_files(command: str) -> list[str]:
    """The arguments of a command that are files here, also behind ``=`` as in ``--config=a.toml``.

    A program without a slash is looked up on the path, so it is none of them.
    """
    program, *arguments = arguments_of(command)
    found = [program] if "/" in program else []
    found += [each.partition("=")[2] if "=" in each else each for each in arguments]
    texts = [filled([each], {}) for each in found if not placeholders(each)]
    return [path for text in texts for path in text if os.path.isfile(path)]


def _digest_of_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        # Of orch the release alone: the commits after it have versions too, and work together.
        return Version(found).base_version if name == DISTRIBUTION else found
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _place_of(objective: str) -> Reference | None:
    """Where its code is; None: nobody knows."""
    try:
        return locate(objective)
    except ObjectiveError:
        return None


def _place_of_data(data: Mapping[str, Any] | None) -> Reference | None:
    """Where the function is whose source pins the data; None: something else pins them."""
    if data is None or not str(data.get("pinned_by", "")).startswith("the source of "):
        return None
    return Reference.parse(str(data["name"]))


def check_data(study: StoredStudy, objective: Objective) -> None:
    """Compare this machine's data with the study's.

    Raises:
        StudyFailed: they differ; the message says in what.
    """
    compare_data(study, pin_data(objective))


def compare_data(study: StoredStudy, here: Mapping[str, Any] | None) -> None:
    """Compare the facts of this machine's data with the study's.

    Raises:
        StudyFailed: they differ; the message says in what.
    """
    pinned = study.data
    if here == pinned:
        return
    if pinned and here and here == {**pinned, "pinned_by": "arrays"}:
        raise StudyFailed(
            f"study '{study.name}' is of an orch that scaled the arrays of {here['name']} (uint8 "
            "from 0 to 1, others as float32), and now they reach the model as they are; its trials "
            "cannot be compared with new ones, so create another study"
        )
    differences = _differences(pinned or {}, here or {})
    raise StudyFailed(
        f"this machine's data are not those of study '{study.name}' ({differences}); "
        f"{_fix(pinned or {})}"
    )


def _fix(pinned: Mapping[str, Any]) -> str:
    """How the same data come here."""
    pinned_by = str(pinned.get("pinned_by", "arrays"))
    if pinned.get("name") == "mnist":
        return "bring the same file here, or name it in ORCH_MNIST"
    if pinned_by == "arrays":
        return "bring the same data here"
    if pinned_by == "fingerprint":
        return "name the same fingerprint, or create another study"
    return f"bring {pinned_by.removeprefix('the ')} as it was, or pin the data with a fingerprint"


def _differences(pinned: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    def short(value: object) -> str:
        return f"{value[:12]}…" if isinstance(value, str) and len(value) > 40 else str(value)

    return "; ".join(
        f"{key}: study {short(pinned.get(key))}, here {short(here.get(key))}"
        for key in sorted(pinned.keys() | here.keys())
        if pinned.get(key) != here.get(key)
    )


def compare_software(database: Database, study: StoredStudy) -> str:
    """In what this machine's software is not that of the study, in words; empty: in nothing."""
    row = database.row("read_software", study_id=study.study_id)
    if row is None:
        return ""  # the study is of an older orch
    pinned = row["software"]
    return differences(pinned, software_here(study.spec.study.objective, pinned, study.data))


def check_software(database: Database, study: StoredStudy, allow: bool) -> str:
    """Compare this machine's code and versions with those that the study was made with.

    Args:
        allow: take part even if they differ; see :func:`record_mismatch`.

    Returns:
        In what they differ, where that is allowed; empty: in nothing.

    Raises:
        StudyFailed: they differ; the message says in what.
    """
    different = compare_software(database, study)
    if different and not allow:
        raise StudyFailed(
            f"this machine's software is not that of study '{study.name}' ({different}); install "
            f"the same, or take part all the same with: orch worker {study.name} --allow-mismatch"
        )
    return different


def record_mismatch(database: Database, study: StoredStudy, mismatch: str) -> None:
    """Keep in the study how the software of a machine that takes part differs; reports say it."""
    machine = f"{socket.gethostname()}: {mismatch}"
    database.call("record_mismatch", study=study.study_id, mismatch=machine)
