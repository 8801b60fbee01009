"""Objectives whose choices are of every kind: ``choice_objectives:lists``, and so on."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna


class Plain(enum.Enum):
    A = "a"
    B = "b"


class Whole(enum.IntEnum):
    A = 1
    B = 2


class Text(enum.StrEnum):
    A = "a"
    B = "b"


# What Optuna's storage in a database gives back equal.
RETURNED: dict[str, list[Any]] = {
    "lists": [[1, 2], [3]],
    "dicts": [{"a": 1}, {"b": [2]}],
    "nested": [[[1], {"a": [None]}], {}],
    "none": [None, "a", 3],
    "numpy_floats": [np.float64(0.1), np.float64(0.2)],
    "numpy_strings": [np.str_("a"), np.str_("b")],
    "not_finite": [float("nan"), float("inf"), -float("inf")],
    "booleans_beside_numbers": [True, 1, 1.0, "1"],
    "falsy": [False, 0, None, "", []],
    "large_numbers": [2**63, 2**64 + 1, 10**30],
    "nul": ["a\0b", ["c\0"]],
    "surrogates": ["\ud800x", ["\udfff"]],
    "whole_enums": list(Whole),
    "text_enums": list(Text),
    "markup": ["<script>alert(1)</script>", {"<b>": "|`*"}],
}
# What it gives back as lists, or with other keys: equal to nothing that the objective has.
CHANGED: dict[str, list[Any]] = {
    "tuples": [(1, 2), (3,)],
    "nested_tuples": [[(1, 2)], {"a": (3,)}],
    "number_keys": [{1: 2}, {3: 4}],
    "nan_in_lists": [[float("nan")], [1.0]],
}
# What it cannot store.
UNSTORABLE: dict[str, list[Any]] = {
    "numpy_numbers": [np.int64(1), np.int64(2)],
    "enums": list(Plain),
    "sets": [{1}, {2}],
    "functions": [len, max],
    "arrays": [np.array([1, 2]), np.array([3])],
}
KINDS = RETURNED | CHANGED | UNSTORABLE


def objective_of(choices: list[Any]) -> Callable[[optuna.Trial], float]:
    """Returns the place of the choice; the first attempt of each even trial fails."""

    def objective(trial: optuna.Trial) -> float:
        chosen = trial.suggest_categorical("c", choices)
        (place,) = (place for place, each in enumerate(choices) if each is chosen)
        assert trial.suggest_categorical("c", choices) is chosen
        assert trial.params["c"] is chosen
        trial.suggest_float("x", 0, 1)
        if trial.number % 2 == 0 and "orch:attempt" not in trial.user_attrs:
            raise MemoryError("the first attempt")  # which is not compared
        return float(place)

    return objective


LISTS: list[Any] = [[1, 2], [3]]  # Optuna takes them, and warns; its types do not


def only_lists(trial: optuna.Trial) -> float:
    return float(len(trial.suggest_categorical("c", LISTS)))


def kinds(trial: optuna.Trial) -> float:
    trial.suggest_categorical("kind", ["a", "b"])
    return trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 9)


def __getattr__(name: str) -> Callable[[optuna.Trial], float]:
    return objective_of(KINDS[name])
