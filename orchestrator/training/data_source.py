"""Where data come from: a name, a file, a function of the user's, or what Python handed over."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.base.references import Reference, nearest
from orchestrator.errors import DataError, ObjectiveError
from orchestrator.training import handover
from orchestrator.training.arrays import (
    Nest,
    as_nest,
    examples_of,
    is_stream,
    sha256_of,
)
from orchestrator.training.data import DataFacts, Dataset, load

# Keys of a mapping: those of orch, and arguments of model.fit.
_OWN_KEYS = ("x", "y", "sample_weight", "validation_data", "test_data", "fingerprint")
_FIT_OPTIONS = (
    "batch_size", "callbacks", "class_weight", "shuffle", "steps_per_epoch", "validation_freq",
    "validation_batch_size", "validation_split", "validation_steps", "verbose",
)  # fmt: skip
_OF_THE_STUDY = {"epochs": "training.epochs", "initial_epoch": "training.epochs"}
_PER_TRIAL = ("hp", "trial")
_DEPTH = 4


@dataclass(frozen=True)
class Data:
    """Data with a fingerprint, for what has no bytes that could be compared.

    Example:
        orch.create_study("flow", objective=objective, data=orch.Data(make_data, fingerprint="v2"))

    Attributes:
        source: whatever ``data=`` takes.
        fingerprint: pins the data: other data have another one.
    """

    source: Any
    fingerprint: str | None = None


@dataclass(frozen=True)
class DataSource:
    """The data that a study names.

    Args:
        reference: ``mnist``, ``digits``, PATH.npz, ``package.module:function``,
            ``./file.py:function``, or under which Python has handed them over.
        fingerprint: pins the data; None: their arrays do, else their function's source.
    """

    reference: str
    fingerprint: str | None = None

    @property
    def takes_trial(self) -> bool:
        """Whether it is a function that each trial calls with its parameters."""
        return self._function is not None and bool(self._parameters)

    def whole(self) -> Dataset:
        """The data as they are without a trial.

        Raises:
            DataError: they cannot be had, or are not what ``model.fit`` takes.
        """
        if self._function is None:
            return self._given()
        if self._parameters:
            name = self._parameters[0]
            raise DataError(f"{self.reference} takes {name}, so it makes data for a trial alone")
        return self._dataset(self._called())

    def for_trial(self, trial: Any) -> Dataset:
        """The data of a trial, made anew.

        Raises:
            DataError: they cannot be had, or are not what ``model.fit`` takes.
        """
        if self._function is None:
            return self._given()
        given: dict[str, Any] = {}
        if "trial" in self._parameters:
            given["trial"] = trial
        if "hp" in self._parameters:
            from orchestrator.training.keras_tuner import hyperparameters_of

            given["hp"] = hyperparameters_of(trial)
        return self._dataset(self._function(**given))

    def facts(self, validation: int | None, folds: int, whole: Callable[[], Dataset]) -> DataFacts:
        """What a study pins.

        Args:
            validation: examples held out; None: a sixth.
            folds: k of k-fold cross-validation.
            whole: the data, where they are not made for a trial alone.
        """
        if not self.takes_trial:
            return whole().facts(validation, folds)
        sha256, pinned_by = self._pin_of_function(None)
        return DataFacts(self.reference, sha256, None, None, None, None, pinned_by)

    @cached_property
    def _handed(self) -> handover.Handover | None:
        return handover.find(self.reference)

    @cached_property
    def _function(self) -> Callable[..., Any] | None:
        """The function that makes the data; None if the reference names something else."""
        if self._handed is not None:
            return self._handed.target if callable(self._handed.target) else None
        if ":" not in self.reference or handover.is_arrays(self.reference):
            return None
        if handover.is_by_value(self.reference):
            raise DataError(
                f"the data function {self.reference} is part of a notebook or script, and only its "
                "own process can hand it to workers; give it with load_study(NAME, data=…), or "
                "move it into a module that every worker can import"
            )
        try:
            found = Reference.parse(self.reference).load()
        except ObjectiveError as error:
            raise DataError(str(error).replace("valid objective", "valid data set")) from None
        if not callable(found):
            raise DataError(f"{self.reference} is not a function; name one that returns the data")
        return found  # type: ignore[no-any-return]

    @cached_property
    def _parameters(self) -> tuple[str, ...]:
        assert self._function is not None
        try:
            known = inspect.signature(self._function).parameters.values()
        except (TypeError, ValueError):
            return ()
        needed = [
            each.name
            for each in known
            if each.name in _PER_TRIAL
            or (
                each.default is each.empty
                and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
            )
        ]
        unknown = [name for name in needed if name not in _PER_TRIAL]
        if unknown:
            raise DataError(
                f"the data function {self.reference} takes {unknown[0]}; it may take hp or trial, "
                "or nothing"
            )
        return tuple(needed)

    def _called(self) -> Any:
        assert self._function is not None
        with contextlib.redirect_stdout(sys.stderr):  # what it prints spoils no output of ours
            return self._function()

    def _given(self) -> Dataset:
        if self._handed is not None:
            return self._dataset(self._handed.target, self._handed.digest)
        if handover.is_arrays(self.reference):
            from orchestrator.training.handed_data import read

            return self._dataset(*read(self.reference))
        found = load(self.reference)
        if self.fingerprint is None:
            return found
        from dataclasses import replace

        return replace(found, sha256=_of_text(self.fingerprint), pinned_by="fingerprint")

    def _dataset(self, returned: Any, digest: str | None = None) -> Dataset:
        found = as_mapping(returned, self.reference)
        dataset = Dataset(
            name=self.reference,
            source=self.reference,
            sha256="",
            pinned_by=None,
            x=found["x"],
            y=found.get("y"),
            sample_weight=found.get("sample_weight"),
            validation_data=found.get("validation_data"),
            test_data=found.get("test_data"),
            options={key: found[key] for key in _FIT_OPTIONS if found.get(key) is not None},
        )
        dataset.sha256, dataset.pinned_by = self._pin(found, digest)
        return dataset

    def _pin(self, found: Mapping[str, Any], digest: str | None) -> tuple[str, str]:
        """What identifies the data, and of what that is the digest.

        Args:
            found: the data.
            digest: of what was handed over.
        """
        fingerprint = self.fingerprint or found.get("fingerprint")
        if fingerprint is None and not streams_of(found):
            return sha256_of_data(found), "arrays"
        if fingerprint is None and digest is not None:
            return digest, "their elements"
        return self._pin_of_function(fingerprint)

    def _pin_of_function(self, fingerprint: Any) -> tuple[str, str]:
        fingerprint = self.fingerprint if fingerprint is None else fingerprint
        if fingerprint is not None:
            return _of_text(str(fingerprint)), "fingerprint"
        if self._handed is not None:
            return self._handed.digest or _of_text(self.reference), "its source"
        module = getattr(inspect.unwrap(self._function), "__module__", "") if self._function else ""
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None or not Path(file).is_file():
            return _of_text(self.reference), "its name"
        content = Path(file).read_bytes().replace(b"\r\n", b"\n")
        return hashlib.sha256(content).hexdigest(), f"the source of {module}"


def as_mapping(returned: Any, name: str) -> dict[str, Any]:
    """What a data function returned, as the mapping that it could have returned, and checked.

    Raises:
        DataError: it is not what ``model.fit`` takes.
    """
    if isinstance(returned, Mapping):
        found = dict(returned)
    elif is_stream(returned):
        found = {"x": returned}
    elif isinstance(returned, tuple | list) and len(returned) == 2:
        found = _of_pair(*returned)
    elif isinstance(returned, tuple) and len(returned) == 3:
        found = dict(zip(("x", "y", "sample_weight"), returned, strict=True))
    else:
        raise DataError(
            f"{name} is of the type {type(returned).__name__}; return a mapping with x and y, or "
            "(x, y), or (x, y), (x_test, y_test)"
        )
    _check_keys(found, name)
    found = {key: each for key, each in found.items() if each is not None}
    _check_training(found)
    for key in ("validation_data", "test_data"):
        if key in found:
            found[key] = _as_parts(found[key], key)
    return found


def _of_pair(first: Any, second: Any) -> dict[str, Any]:
    """``(x, y)``, or training and test set: two tuples of two arrays each that belong together."""
    if _are_examples(first) and _are_examples(second):
        return {"x": first[0], "y": first[1], "test_data": second}
    return {"x": first, "y": second}


def _are_examples(parts: Any) -> bool:
    if not isinstance(parts, tuple) or len(parts) != 2:
        return False
    try:
        x, y = as_nest(parts, "data")
        return x is not None and (y is None or examples_of(x, "x") == examples_of(y, "y"))
    except DataError:
        return False


def _check_keys(found: Mapping[str, Any], name: str) -> None:
    for key in found:
        if key in _OF_THE_STUDY:
            raise DataError(f"{name} has '{key}', which the study sets: {_OF_THE_STUDY[key]}")
        if key not in _OWN_KEYS + _FIT_OPTIONS:
            hint = nearest(str(key), _OWN_KEYS + _FIT_OPTIONS)
            raise DataError(f"{name} has an unknown key '{key}'; {hint}")
    if found.get("x") is None:
        raise DataError(f"{name} lacks x, the examples; return a mapping with x and y")


def _check_training(found: dict[str, Any]) -> None:
    if is_stream(found["x"]):
        for key in ("y", "sample_weight", "validation_split"):
            if key in found:
                kind = type(found["x"]).__name__
                raise DataError(f"x is a {kind}, which brings everything; leave {key} out")
        return
    for key in ("x", "y", "sample_weight"):
        if key in found:
            found[key] = as_nest(found[key], key)
            _check_length(found[key], key, examples_of(found["x"], "x"))


def _check_length(nest: Nest, key: str, examples: int) -> None:
    count = examples_of(nest, key)
    if count != examples:
        raise DataError(f"x has {examples} examples, and {key} has {count}; give one for each")


def _as_parts(given: Any, key: str) -> Any:
    """``(x, y)`` or ``(x, y, sample_weight)`` of arrays, or what is iterated."""
    if is_stream(given):
        return given
    parts = given if isinstance(given, tuple | list) else (given,)
    if not 1 <= len(parts) <= 3 or (isinstance(given, list) and len(parts) == 1):
        raise DataError(f"{key} has {len(parts)} parts; give (x, y) or (x, y, sample_weight)")
    x, *others = (as_nest(part, key) for part in parts)
    for other in others:
        if other is not None:
            _check_length(other, key, examples_of(x, key))
    return (x, *(others or [None]))


def streams_of(found: Mapping[str, Any]) -> list[Any]:
    """What is iterated of the data."""
    parts = [found[key] for key in ("x", "validation_data", "test_data") if key in found]
    return [part for part in parts if is_stream(part)]


def sha256_of_data(found: Mapping[str, Any]) -> str:
    """The SHA-256 of all that a training is given: arrays, and a description of what else."""
    digest = hashlib.sha256()
    for key in sorted(found):
        digest.update(f"{key} {_described(found[key])}\n".encode())
    return digest.hexdigest()


def _described(value: Any, depth: int = 0) -> str:
    """The same text for equal values, in every process."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str | bytes):
        text = repr(value)
    elif hasattr(value, "dtype") and hasattr(value, "shape"):
        text = sha256_of(np.asarray(value))
    elif isinstance(value, Mapping):
        parts = [f"{key!r}: {_described(each, depth)}" for key, each in value.items()]
        text = f"{{{', '.join(sorted(parts))}}}"
    elif isinstance(value, list | tuple):
        parts = [_described(each, depth) for each in value]
        text = f"{type(value).__name__}({', '.join(parts)})"
    elif hasattr(value, "__code__"):
        text = f"{value.__qualname__} {handover.digest_of(value)}"
    else:
        inner = getattr(value, "__dict__", {}) if depth < _DEPTH else {}
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        text = f"{kind}({_described(inner, depth + 1)})"
    return text


def _of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
