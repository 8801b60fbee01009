"""References to a user's code: ``package.module:name``, or ``./folder/file.py:name``."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ObjectiveError

_OURS = "orchestrator"
# What was in the package `objectives` before that name was the user's.
_MOVED = {
    "objectives": "orchestrator.objective",
    "objectives.base": "orchestrator.objective",
    "objectives.data": "orchestrator.objective",
    "objectives.errors": "orchestrator.objective",
    "objectives.estimator": "orchestrator.objective",
    "objectives.keras_objective": "orchestrator.objective",
    **{
        f"objectives.{name}": f"orchestrator.training.{name}"
        for name in ("fast_fit", "hyperparameters", "keras_tuner", "registry", "rounds", "training")
    },
    **{
        f"objectives.{name}": f"orchestrator.training.builtin.{name}"
        for name in ("digits", "mnist", "network", "quadratic")
    },
}


@dataclass(frozen=True)
class Reference:
    """Where an object is defined.

    Attributes:
        text: as the user wrote it.
        folder: comes first where the module is searched: the current one, or that of a script.
        module: the module's name from there.
        attribute: a name in the module, with dots where it is an attribute of an object there.
    """

    text: str
    folder: str
    module: str
    attribute: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``package.module:name`` or ``file.py:name``.

        Raises:
            ObjectiveError: it is neither.
        """
        module, _, attribute = text.rpartition(":")
        if not module or not attribute:
            raise ObjectiveError(
                f"'{text}' is not a valid objective; write package.module:function or "
                "./file.py:function"
            )
        if not module.endswith(".py"):
            return cls(text, os.getcwd(), module, attribute)
        folder, name = _module_of(Path(module).expanduser())
        return cls(text, str(folder), name, attribute)

    def load(self) -> Any:
        """Import the module and look the name up.

        Raises:
            ObjectiveError: the module cannot be imported, or has no such name.
        """
        try:
            with self._importable():
                found: Any = importlib.import_module(self.module)
        except (Exception, SystemExit) as error:  # a script without a main guard may exit
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ObjectiveError(
                f"cannot import {self.module} for '{self.text}': {reason}{self._fix(error)}"
            ) from error
        for name in self.attribute.split("."):
            if not hasattr(found, name):
                raise ObjectiveError(self._missing(found, name))
            found = getattr(found, name)
        return found

    def run_from_here(self) -> None:
        """Make this process one that runs the object, as ``python file.py`` would.

        The folder stays first on ``sys.path``, and nothing of our command line is left. For a
        process of ours, after it has imported what it needs itself.
        """
        if sys.path[:1] != [self.folder]:
            sys.path.insert(0, self.folder)
        sys.argv = [self.module]

    @contextlib.contextmanager
    def _importable(self) -> Iterator[None]:
        """The folder comes first, no argument is left, and what is printed spoils no output.

        A module of ours is imported as everywhere else: a user's ``random.py`` is not in its way.
        """
        if self.module.partition(".")[0] == _OURS:
            yield
            return
        arguments, sys.argv = sys.argv, [self.module]
        sys.path.insert(0, self.folder)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            sys.argv = arguments
            with contextlib.suppress(ValueError):  # the module may have changed the path itself
                sys.path.remove(self.folder)

    def _missing(self, found: Any, name: str) -> str:
        if found is sys.modules.get(_OURS):
            return f"module {_OURS} has no '{name}'; {_clash()}"
        public = [each for each in vars(found) if not each.startswith("_")]
        owner = f"module {self.module}" if found is sys.modules.get(self.module) else self.text
        return f"{owner} has no '{name}'; {nearest(name, public)}"

    def _fix(self, error: BaseException) -> str:
        """What to do about an import that failed, to be added to the message."""
        if not isinstance(error, ImportError) or error.name is None:
            return ""
        top = self.module.partition(".")[0]
        if error.name == _OURS and Path(f"{_OURS}.py").exists():
            return f"; {_clash()}"
        if not isinstance(error, ModuleNotFoundError):
            return ""
        if error.name == top:
            return f"; run orch in the folder where {top} is, or install it"
        return f"; {error.name} is {_MOVED[error.name]} now" if error.name in _MOVED else ""


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a name that is unknown: the nearest one, or all of them."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(names))}"


def _module_of(file: Path) -> tuple[Path, str]:
    """The folder from which a file is imported, and its name from there.

    Raises:
        ObjectiveError: there is no such file, or another module has its name.
    """
    path = file.resolve()
    if not path.is_file():
        raise ObjectiveError(f"there is no file {file}; give the path of your script")
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():  # part of a package
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if name in sys.modules and (loaded is None or Path(loaded).resolve() != path):
        raise ObjectiveError(f"{file} has the name of a module that Python uses; rename the file")
    return folder, name


def _clash() -> str:
    return f"{_OURS} is the name of orch's own package: rename your {_OURS}.py"
