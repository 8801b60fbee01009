"""The registry: the objective of a name, of a module's function, or of a hypermodel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar

from orchestrator.base.references import Reference, nearest
from orchestrator.errors import ObjectiveError, UnknownObjective
from orchestrator.spec.command import is_command
from orchestrator.training import handover
from orchestrator.training.base import Objective, Settings, Trial

ENTRY_POINTS = "orch.objectives"

_BUILT_IN = {
    "mnist": "orchestrator.training.builtin.mnist:Mnist",
    "digits": "orchestrator.training.builtin.digits:Digits",
    "cnn": "orchestrator.training.builtin.cnn:Cnn",
    "quadratic": "orchestrator.training.builtin.quadratic:Quadratic",
}
_KERAS_TUNER = "kt:"


def find(reference: str) -> Callable[[Settings], Objective]:
    """The objective of a registered name, of a function, or of a hypermodel.

    A function is ``package.module:function`` or ``./file.py:function``; with ``kt:`` before it, it
    is a KerasTuner hypermodel.

    Raises:
        UnknownObjective: no such name; the message has the nearest one.
        ObjectiveError: the module or the function cannot be loaded.
    """
    if is_command(reference):
        from orchestrator.training.command import Command

        return Command.of(reference).with_settings
    handed = handover.find(reference)
    if handed is not None:
        return _objective_of(handed.target, reference)
    if not reference.startswith(_KERAS_TUNER):
        return _objective_of(locate(reference).load(), reference)
    if ":" not in reference.removeprefix(_KERAS_TUNER):
        raise ObjectiveError(f"'{reference}' names no function; write {reference}:build_model")
    from orchestrator.training.keras_tuner import KerasTunerObjective

    hypermodel = locate(reference).load()
    return lambda settings: KerasTunerObjective(hypermodel, settings)


def locate(reference: str) -> Reference:
    """Where the code of an objective is.

    Raises:
        UnknownObjective: no such name; the message has the nearest one.
        ObjectiveError: a file that it names is missing, it must be handed over, or it is a command.
    """
    if is_command(reference):
        raise ObjectiveError("a command is in no module")
    if handover.is_by_value(reference):
        raise handover.by_value_only(reference)
    if ":" in reference:
        return Reference.parse(reference.removeprefix(_KERAS_TUNER))
    registered = {each.name: each for each in entry_points(group=ENTRY_POINTS)}
    if reference in registered:
        return Reference.parse(registered[reference].value)
    if reference in _BUILT_IN:
        return Reference.parse(_BUILT_IN[reference])
    raise UnknownObjective(
        f"unknown objective '{reference}'; a function of your own is package.module:function; "
        f"{nearest(reference, known())}"
    )


def known() -> list[str]:
    """The registered names."""
    return sorted({each.name for each in entry_points(group=ENTRY_POINTS)} | set(_BUILT_IN))


def _objective_of(target: Any, text: str) -> Callable[[Settings], Objective]:
    if isinstance(target, type) and issubclass(target, Objective):
        return target
    if isinstance(target, Objective):
        return target.with_settings
    if isinstance(target, type):
        target = _instance(target, text)
    if not callable(target):
        raise ObjectiveError(f"'{text}' cannot be called; name a function of a trial")
    code = getattr(target, "__code__", None)
    if code is not None and code.co_varnames[: code.co_argcount] == ("hp",):
        raise ObjectiveError(
            f"'{text}' takes hp, as KerasTuner has it; write {_as_hypermodel(text)}"
        )

    return lambda settings: FunctionObjective(settings, target)


def _as_hypermodel(text: str) -> str:
    if handover.is_by_value(text):
        return f"KerasObjective({text.rpartition(':')[2]})"
    return f"{_KERAS_TUNER}{text}"


def _instance(target: type, text: str) -> object:
    """An object of a class whose objects are called with a trial, as Optuna's users write them."""
    if not any("__call__" in vars(each) for each in target.__mro__):
        raise ObjectiveError(f"'{text}' is a class without __call__; name a function of a trial")
    try:
        return target()
    except TypeError as error:
        raise ObjectiveError(
            f"'{text}' is a class that needs arguments ({error}); make an object of it in the "
            "module, and name that"
        ) from None


class FunctionObjective(Objective):
    """Runs the user's function, unchanged, with the worker's own ``optuna.Trial``."""

    default_metric: ClassVar[str] = "value"

    def __init__(
        self, settings: Settings, function: Callable[[Any], float | Sequence[float]]
    ) -> None:
        super().__init__(settings)
        self._function = function

    def __call__(self, trial: Trial) -> float | Sequence[float]:
        return self._function(trial)
