"""Strategy: an Optuna sampler or pruner class by its name in the spec."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from orchestrator.base.extras import require
from orchestrator.errors import UsageError, nearest

# Python callables and objects, which a spec file cannot write.
_NOT_WRITABLE = {
    "after_trial_strategy",
    "child_generation_strategy",
    "constraints_func",
    "crossover",
    "elite_population_selection_strategy",
    "gamma",
    "independent_sampler",
    "mutation",
    "source_trials",
    "weights",
}

_TYPES: Mapping[str, Any] = {
    "int": int,
    "float": int | float,
    "bool": bool,
    "str": str,
    "None": type(None),
}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a string",
}


@dataclass(frozen=True)
class Strategy:
    """One class, Optuna's or ours, and the options that we set unless the spec does."""

    class_name: str
    module: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    # Options that orch fills in itself; naming them in a spec would break what they are for.
    reserved: frozenset[str] = frozenset()
    # A package that the class needs, and imports only after it has begun; and the extra with it.
    package: str | None = None
    extra: str = ""

    def options(self) -> dict[str, str]:
        """What a spec may say beside the name, and of which type it is as Optuna writes it."""
        return {
            name: type_
            for name, type_ in _parameters(self._class()).items()
            if name not in _NOT_WRITABLE | self.reserved
        }

    @property
    def called(self) -> str:
        """The class in a message."""
        is_optunas = self.module.partition(".")[0] == "optuna"
        return f"Optuna's {self.class_name}" if is_optunas else self.class_name

    def _class(self) -> Any:
        return getattr(importlib.import_module(self.module), self.class_name)

    def build(self, section: str, options: Mapping[str, Any], **filled: Any) -> Any:
        """Make the sampler or pruner.

        Args:
            section: ``"sampler"`` or ``"pruner"``, for the messages.
            options: the spec's further keys.
            filled: what orch fills in; the spec's options win.

        Raises:
            UsageError: an option that the class does not have, or a value that it refuses.
        """
        if self.package is not None:
            require(self.package, self.extra, f"{section}: {self.called}")
        known = self.options()
        for option in options:
            if option not in known:
                raise UsageError(
                    f"unknown key {section}.{option} for {self.called}; {nearest(option, known)}"
                )
            _check_type(f"{section}.{option}", options[option], known[option])
        try:
            return _make(self._class(), {**self.defaults, **filled}, options)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{section}: {' '.join(str(error).split())}") from None
        except ImportError as error:
            missing = error.name or str(error)
            raise UsageError(
                f"{section}: {self.called} needs {missing}; pip install {missing}"
            ) from None


def _make(cls: Any, own: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """An object, without what Optuna warns of: it marks half of this experimental.

    Python's warnings can only be silenced for all threads of a process at once, and an objective
    may run in this one. So that is done only where the spec's own options may warn.
    """
    made = cls.__new__(cls)
    initialise = inspect.unwrap(cls.__init__)  # without the warning that the class is experimental
    if not options and "constraints_func" not in own:
        initialise(made, **own)
        return made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initialise(made, **{**own, **options})
    return made


@cache
def _parameters(cls: type) -> dict[str, str]:
    return {
        name: each.annotation if isinstance(each.annotation, str) else type(each.default).__name__
        for name, each in inspect.signature(cls).parameters.items()
    }


def _check_type(key: str, value: object, annotation: str) -> None:
    """Refuse what Optuna would stumble over in the first trial."""
    names = [part.strip() for part in annotation.split("|")]
    if not all(name in _TYPES for name in names):
        return
    right = any(isinstance(value, _TYPES[name]) for name in names)
    if not right or (isinstance(value, bool) and "bool" not in names):
        wanted = " or ".join(_WORDS[name] for name in names if name in _WORDS)
        raise UsageError(f"{key} must be {wanted}, not {value!r}")


def whole_number(key: str, value: object, low: int) -> int:
    """An option that counts something.

    Raises:
        UsageError: it is no whole number, or below ``low``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UsageError(f"{key} must be a whole number from {low}, not {value!r}")
    return value


def choose(strategies: Mapping[str, Strategy], section: str, name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        UsageError: unknown; the message has the nearest known name.
    """
    if name not in strategies:
        raise UsageError(f"unknown {section} '{name}'; {nearest(name, strategies)}")
    return strategies[name]
