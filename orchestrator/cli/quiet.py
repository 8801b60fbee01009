"""TensorFlow's news of its start, kept from the terminal of the ``orch`` command.

Its C++ parts write them while they are loaded, before they look at ``TF_CPP_MIN_LOG_LEVEL``, and a
user's module may import TensorFlow. Only that import is silent: what a user's module writes, to
whatever descriptor, reaches the terminal.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_STDERR = 2
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def quieten_tensorflow() -> None:
    """Let TensorFlow load without its news in this process, which is a command's."""
    sys.meta_path.insert(0, _Finder())


def quieten_choices() -> None:
    """Let Optuna's own storage read choices that are lists or dicts without a warning of each.

    For a command that serves until Ctrl-C and runs nobody else's code.
    """
    warnings.filterwarnings(
        "ignore", "Choices for a categorical distribution should be", UserWarning
    )


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        with _silent(), _fatal_alone():
            self._loader.exec_module(module)


@contextmanager
def _silent() -> Iterator[None]:
    try:
        terminal = os.dup(_STDERR)
    except OSError:  # closed by whoever started us
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(terminal, _STDERR)
        os.close(nowhere)
        os.close(terminal)


@contextmanager
def _fatal_alone() -> Iterator[None]:
    """Load TensorFlow at the highest level: a missing GPU is not an error for a command."""
    if _LEVEL in os.environ:
        yield
        return
    os.environ[_LEVEL] = "3"
    try:
        yield
    finally:
        os.environ.pop(_LEVEL, None)  # our workers have a level of their own
