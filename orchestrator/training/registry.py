"""The registry: the objective of a name, of a module's function, or of a hypermodel."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Literal

from objectives.base import Objective, Settings
from objectives.errors import ObjectiveError, UnknownObjective

ENTRY_POINTS = "orch.objectives"

_BUILT_IN = {
    "mnist": "objectives.mnist:Mnist",
    "digits": "objectives.digits:Digits",
    "quadratic": "objectives.quadratic:Quadratic",
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
        from objectives.keras_tuner import KerasTunerObjective

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
    from objectives.function import FunctionObjective

    return lambda settings: FunctionObjective(settings, target)


def _attribute(reference: str) -> Any:
    """What ``package.module:attribute`` names."""
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ObjectiveError(f"'{reference}' is no objective; write package.module:function")
    if module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").replace(os.sep, ".")
        raise ObjectiveError(f"'{module_name}' is a file; name its module: {dotted}:{attribute}")
    # Like `python -m`: a module beside the user is found, installed or not.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        first, mend = module_name.split(".")[0], ""
        if isinstance(error, ModuleNotFoundError) and error.name == first:
            mend = f"; run orch in the folder where {first} is, or install it"
        raise ObjectiveError(
            f"cannot import {module_name} for '{reference}': {reason}{mend}"
        ) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ObjectiveError(
            f"module {module_name} has no '{attribute}'; {_nearest(attribute, public)}"
        )
    return getattr(module, attribute)


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(names))}"
