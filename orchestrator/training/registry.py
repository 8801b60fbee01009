"""The registry: the objective of a name, of a module's function, or of a hypermodel."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from orchestrator.training.base import Objective, Settings
from orchestrator.training.errors import ObjectiveError, UnknownObjective

ENTRY_POINTS = "orch.objectives"

_OURS = "orchestrator"
_BUILT_IN = {
    "mnist": "orchestrator.training.builtin.mnist:Mnist",
    "digits": "orchestrator.training.builtin.digits:Digits",
    "quadratic": "orchestrator.training.builtin.quadratic:Quadratic",
}
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
_KERAS_TUNER = "kt:"
_GROWS_BETTER = re.compile(r"(^|_)(acc|accuracy|auc|precision|recall|f1|r2|score)(_|$)")


def find(reference: str) -> Callable[[Settings], Objective]:
    """The objective of a registered name, of ``package.module:function``, or of a hypermodel.

    ``kt:package.module:build_model`` is a KerasTuner hypermodel.

    Raises:
        UnknownObjective: no such name; the message has the nearest one.
        ObjectiveError: the module or the function cannot be loaded.
    """
    if reference.startswith(_KERAS_TUNER):
        from orchestrator.training.keras_tuner import KerasTunerObjective

        if ":" not in reference.removeprefix(_KERAS_TUNER):
            raise ObjectiveError(f"'{reference}' names no function; write {reference}:build_model")
        hypermodel = _attribute(reference.removeprefix(_KERAS_TUNER))
        return lambda settings: KerasTunerObjective(settings, hypermodel)
    return _from_module(locate(reference))


def locate(reference: str) -> str:
    """Where the code of an objective is, as ``package.module:attribute``.

    Raises:
        UnknownObjective: no such name; the message has the nearest one.
    """
    if ":" in reference:
        return reference.removeprefix(_KERAS_TUNER)
    registered = {each.name: each for each in entry_points(group=ENTRY_POINTS)}
    if reference in registered:
        return registered[reference].value
    if reference in _BUILT_IN:
        return _BUILT_IN[reference]
    raise UnknownObjective(
        f"unknown objective '{reference}'; a function of your own is package.module:function; "
        f"{_nearest(reference, known())}"
    )


def known() -> list[str]:
    """The registered names."""
    return sorted({each.name for each in entry_points(group=ENTRY_POINTS)} | set(_BUILT_IN))


def default_direction(metric: str) -> Literal["minimize", "maximize"]:
    """Accuracies and scores are maximised; losses, errors and anything else minimised."""
    return "maximize" if _GROWS_BETTER.search(metric.lower()) else "minimize"


def _from_module(reference: str) -> Callable[[Settings], Objective]:
    target = _attribute(reference)
    if isinstance(target, type) and issubclass(target, Objective):
        return target
    if not callable(target):
        raise ObjectiveError(f"'{reference}' cannot be called; name a function of a trial")
    code = getattr(target, "__code__", None)
    if code is not None and code.co_varnames[: code.co_argcount] == ("hp",):
        raise ObjectiveError(f"'{reference}' takes hp, as KerasTuner has it; write kt:{reference}")
    from orchestrator.training.function import FunctionObjective

    return lambda settings: FunctionObjective(settings, target)


def _attribute(reference: str) -> Any:
    """What ``package.module:attribute`` names."""
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ObjectiveError(
            f"'{reference}' is not a valid objective; write package.module:function"
        )
    if module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").replace(os.sep, ".")
        raise ObjectiveError(f"'{module_name}' is a file; name its module: {dotted}:{attribute}")
    try:
        with _beside_the_user(module_name):
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ObjectiveError(
            f"cannot import {module_name} for '{reference}': {reason}{_fix(error, module_name)}"
        ) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ObjectiveError(
            f"module {module_name} has no '{attribute}'; "
            + (_clash() if module_name == _OURS else _nearest(attribute, public))
        )
    return getattr(module, attribute)


def import_beside_the_user() -> None:
    """Put the current folder first on ``sys.path``, as ``python file.py`` does with the script's.

    For a process of ours that runs objectives, after it has imported what it needs itself.
    """
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())


@contextlib.contextmanager
def _beside_the_user(module: str) -> Iterator[None]:
    """The current folder comes first while the user's module is imported, as with ``python -m``.

    A module of ours is imported as everywhere else: a user's ``random.py`` is not in its way.
    """
    here = os.getcwd()
    if module.partition(".")[0] == _OURS or here in sys.path[:1]:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have changed the path itself
            sys.path.remove(here)


def _fix(error: BaseException, module: str) -> str:
    """What to do about an import that failed, to be added to the message; empty: nobody knows."""
    if not isinstance(error, ImportError) or error.name is None:
        return ""
    top = module.partition(".")[0]
    if error.name == _OURS and Path(f"{_OURS}.py").exists():
        return f"; {_clash()}"
    if not isinstance(error, ModuleNotFoundError):
        return ""
    if error.name == top:
        return f"; run orch in the folder where {top} is, or install it"
    return f"; {error.name} is {_MOVED[error.name]} now" if error.name in _MOVED else ""


def _clash() -> str:
    return f"{_OURS} is the name of orch's own package: rename your {_OURS}.py"


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(names))}"
